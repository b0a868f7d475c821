<?php

// Laravel's queue on Redis, unmodified, against a running Larder: its scripts move what is due and what was reserved too long.
//
// The server's port is in LARDER_PORT; crates/testkit/tests/clients.rs starts the server and this file.

foreach (['Queue', 'Redis', 'Container', 'Support', 'Contracts', 'Collections', 'Macroable'] as $part) {
    require_once "Illuminate/$part/autoload.php";
}

use Illuminate\Container\Container;
use Illuminate\Queue\RedisQueue;
use Illuminate\Redis\RedisManager;

const JOBS = 1000;

function check(string $what, mixed $expected, mixed $found): void
{
    if ($expected !== $found) {
        fwrite(STDERR, "$what: " . var_export($expected, true) . ' was expected, ' . var_export($found, true) . " was found\n");
        exit(1);
    }
}

$container = new Container();
$redis = new RedisManager($container, 'phpredis', [
    'default' => ['host' => '127.0.0.1', 'port' => (int) getenv('LARDER_PORT'), 'database' => 0],
]);
$redis->connection()->flushall();
$queue = new RedisQueue($redis, 'work', 'default', 1);
$queue->setContainer($container);
$queue->setConnectionName('redis');

for ($number = 0; $number < JOBS; $number++) {
    $queue->push('Job@handle', ['number' => $number]);
}
check('jobs that wait', JOBS, $queue->size());

$seen = [];
while (($job = $queue->pop()) !== null) {
    $seen[$job->payload()['data']['number']] = true;
    $job->delete();
}
check('jobs that were done', JOBS, count($seen));
check('jobs that are left', 0, $queue->size());

// One that is released comes again, with its attempts counted.
$queue->push('Job@handle', ['number' => 1]);
$job = $queue->pop();
check('attempts', 1, $job->attempts());
check('while it is reserved', null, $queue->pop());
$job->release(0);
$job = $queue->pop();
check('attempts after its release', 2, $job->attempts());

// One that is neither deleted nor released comes back when its time is over, and one that is delayed when its time has come.
$queue->later(1, 'Job@handle', ['number' => 2]);
check('jobs of every kind', 2, $queue->size());
check('before their times', null, $queue->pop());
$end = microtime(true) + 10;
$numbers = [];
while (count($numbers) < 2 && microtime(true) < $end) {
    usleep(50000);
    if (($job = $queue->pop()) !== null) {
        $numbers[] = $job->payload()['data']['number'];
        $job->delete();
    }
}
sort($numbers);
check('jobs whose time has come', [1, 2], $numbers);
$queue->push('Job@handle', []);
check('jobs that are cleared', 1, $queue->clear('work'));
echo "Laravel's queue works\n";
