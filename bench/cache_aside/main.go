// Cache-aside as a fast compiled application does it by hand, and the same application over read-through: redigo and lib/pq.
// Counts reads, their latency, questions to the store and stale reads. docs/BENCHMARKS.md has the figures; bench/cache_aside/run runs it.
package main

import (
	"database/sql"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
	_ "github.com/lib/pq"
)

var (
	mode    = flag.String("mode", "aside", "aside or through")
	address = flag.String("redis", "", "host:port of the cache")
	dsn     = flag.String("pg", "", "how to reach PostgreSQL")
	clients = flag.Int("clients", 32, "readers")
	seconds = flag.Int("seconds", 10, "how long")
	keys    = flag.Int("keys", 10000, "rows")
	rate    = flag.Int("writes", 200, "updates a second")
	who     = flag.String("writer", "app", "app: by hand it deletes the copy, else it SETs; other: somebody who knows of no cache")
	ttl     = flag.Int("ttl", 60, "seconds a copy is kept")
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type reader struct {
	conn    redis.Conn
	query   *sql.Stmt
	random  *rand.Rand
	zipf    *rand.Zipf
	took    []time.Duration
	stale   int
	asked   int
	oldest  time.Duration
	missing int
}

// What the application does to read a user.
func (r *reader) read(key int) string {
	name := "user:" + strconv.Itoa(key)
	value, err := redis.String(r.conn.Do("GET", name))
	if err == nil || *mode == "through" {
		must(err)
		return value
	}
	if err != redis.ErrNil {
		must(err)
	}
	r.asked++
	must(r.query.QueryRow(key).Scan(&value))
	_, err = r.conn.Do("SET", name, value, "EX", *ttl)
	must(err)
	return value
}

func main() {
	flag.Parse()
	db, err := sql.Open("postgres", *dsn)
	must(err)
	db.SetMaxIdleConns(*clients)
	db.SetMaxOpenConns(*clients)
	query, err := db.Prepare("SELECT name FROM users WHERE id = $1")
	must(err)
	committed := make([]int64, *keys)
	since := make([]int64, *keys)
	var over int32
	var wait sync.WaitGroup
	wait.Add(1)
	go func() {
		defer wait.Done()
		own, err := sql.Open("postgres", *dsn)
		must(err)
		conn, err := redis.Dial("tcp", *address)
		must(err)
		random := rand.New(rand.NewSource(7))
		zipf := rand.NewZipf(random, 1.1, 10, uint64(*keys-1))
		next := time.Now()
		for atomic.LoadInt32(&over) == 0 && *rate > 0 {
			key := int(zipf.Uint64())
			version := committed[key] + 1
			name, value := "user:"+strconv.Itoa(key), "v"+strconv.FormatInt(version, 10)
			if *who == "app" && *mode == "through" {
				_, err = conn.Do("SET", name, value)
			} else {
				_, err = own.Exec("UPDATE users SET name = $1 WHERE id = $2", value, key)
			}
			must(err)
			if *who == "app" && *mode == "aside" {
				_, err = conn.Do("DEL", name)
				must(err)
			}
			atomic.StoreInt64(&since[key], time.Now().UnixNano())
			atomic.StoreInt64(&committed[key], version)
			next = next.Add(time.Second / time.Duration(*rate))
			time.Sleep(time.Until(next))
		}
	}()
	readers := make([]*reader, *clients)
	deadline := time.Now().Add(time.Duration(*seconds) * time.Second)
	var reading sync.WaitGroup
	for i := range readers {
		conn, err := redis.Dial("tcp", *address)
		must(err)
		random := rand.New(rand.NewSource(int64(i)))
		r := &reader{conn: conn, query: query, random: random, zipf: rand.NewZipf(random, 1.1, 10, uint64(*keys-1))}
		readers[i] = r
		reading.Add(1)
		go func() {
			defer reading.Done()
			for start := time.Now(); start.Before(deadline); start = time.Now() {
				key := int(r.zipf.Uint64())
				known, at := atomic.LoadInt64(&committed[key]), atomic.LoadInt64(&since[key])
				value := r.read(key)
				r.took = append(r.took, time.Since(start))
				version, err := strconv.ParseInt(value[1:], 10, 64)
				must(err)
				if version < known {
					r.stale++
					if age := start.Sub(time.Unix(0, at)); age > r.oldest {
						r.oldest = age
					}
				}
			}
		}()
	}
	reading.Wait()
	atomic.StoreInt32(&over, 1)
	wait.Wait()
	var took []time.Duration
	stale, asked := 0, 0
	var oldest time.Duration
	for _, r := range readers {
		took = append(took, r.took...)
		stale += r.stale
		asked += r.asked
		if r.oldest > oldest {
			oldest = r.oldest
		}
	}
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	at := func(share float64) int64 { return took[int(share*float64(len(took)-1))].Microseconds() }
	fmt.Printf("%d reads/s, p50 %d us, p99 %d us, p99.9 %d us, %d questions by the application, %d stale reads, the oldest %d ms\n",
		len(took) / *seconds, at(0.5), at(0.99), at(0.999), asked, stale, oldest.Milliseconds())
}
