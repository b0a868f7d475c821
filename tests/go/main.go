// Redigo, a Go client, unmodified, against a running Larder. The server's port is in LARDER_PORT;
// crates/testkit/tests/clients.rs starts the server and this program, which ends with an error when something is off.
package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/gomodule/redigo/redis"
)

func check(what string, got, want interface{}, err error) {
	if err != nil || !reflect.DeepEqual(got, want) {
		fmt.Fprintf(os.Stderr, "%s: got %v (%v), want %v\n", what, got, err, want)
		os.Exit(1)
	}
	fmt.Println("ok", what)
}

func main() {
	address := "127.0.0.1:" + os.Getenv("LARDER_PORT")
	pool := &redis.Pool{
		MaxIdle:     4,
		IdleTimeout: time.Minute,
		DialContext: func(ctx context.Context) (redis.Conn, error) { return redis.DialContext(ctx, "tcp", address) },
		TestOnBorrow: func(conn redis.Conn, _ time.Time) error {
			_, err := conn.Do("PING")
			return err
		},
	}
	defer pool.Close()
	conn := pool.Get()
	defer conn.Close()
	_, err := conn.Do("FLUSHALL")
	check("flushall", err, nil, nil)

	_, err = conn.Do("SET", "greeting", "hello", "EX", 100)
	text, _ := redis.String(conn.Do("GET", "greeting"))
	check("strings", text, "hello", err)
	_, err = redis.String(conn.Do("GET", "none"))
	check("nothing", err, redis.ErrNil, nil)

	_, _ = conn.Do("HSET", redis.Args{}.Add("user:1").AddFlat(map[string]string{"name": "Ada", "born": "1815"})...)
	user := struct {
		Name string `redis:"name"`
		Born int    `redis:"born"`
	}{}
	values, err := redis.Values(conn.Do("HGETALL", "user:1"))
	_ = redis.ScanStruct(values, &user)
	check("hashes", user.Born, 1815, err)

	_ = conn.Send("MULTI")
	_ = conn.Send("RPUSH", "list", "a", "b")
	_ = conn.Send("LLEN", "list")
	replies, err := redis.Int64s(conn.Do("EXEC"))
	check("transactions", replies, []int64{2, 2}, err)

	subscriber := redis.PubSubConn{Conn: pool.Get()}
	_ = subscriber.Subscribe("news")
	subscribed, ok := subscriber.ReceiveWithTimeout(5 * time.Second).(redis.Subscription)
	check("subscribing", ok && subscribed.Count == 1, true, nil)
	receivers, err := redis.Int(conn.Do("PUBLISH", "news", "hello"))
	check("publishing", receivers, 1, err)
	message, ok := subscriber.ReceiveWithTimeout(5 * time.Second).(redis.Message)
	check("receiving", ok && string(message.Data) == "hello", true, nil)
	_ = subscriber.Unsubscribe()
	subscriber.Close()

	waiting := pool.Get()
	defer waiting.Close()
	popped := make(chan []string)
	go func() {
		element, _ := redis.Strings(redis.DoWithTimeout(waiting, 10*time.Second, "BLPOP", "queue", 5))
		popped <- element
	}()
	time.Sleep(20 * time.Millisecond)
	_, err = conn.Do("RPUSH", "queue", "job")
	check("waiting", <-popped, []string{"queue", "job"}, err)
}
