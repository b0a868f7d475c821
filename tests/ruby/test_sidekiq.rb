# Sidekiq, unmodified, with a real processor against a running Larder.
#
# The server's port is in LARDER_PORT; crates/testkit/tests/clients.rs starts the server and this file.

require "sidekiq"
require "sidekiq/api"
require "sidekiq/cli"
require "sidekiq/launcher"

JOBS = 2000
URL = "redis://localhost:#{ENV.fetch("LARDER_PORT")}/0"

Sidekiq.configure_server { |config| config.redis = { url: URL, size: 20 } }
Sidekiq.configure_client { |config| config.redis = { url: URL } }
Sidekiq.logger.level = Logger::FATAL
Redis.silence_deprecations = true if Redis.respond_to?(:silence_deprecations=)

class Adds
  include Sidekiq::Worker
  sidekiq_options queue: "work", retry: 3

  def perform(counter, number)
    Sidekiq.redis { |r| r.incrby(counter, number) }
  end
end

class Fails
  include Sidekiq::Worker
  sidekiq_options queue: "work", retry: 3

  def perform(counter)
    tries = Sidekiq.redis { |r| r.incr(counter) }
    raise "again" if tries < 2
  end
end

def check(what, expected, found)
  raise "#{what}: #{expected.inspect} was expected, #{found.inspect} was found" unless expected == found
end

def wait_for(what, seconds)
  finish = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
  until yield
    raise "#{what}: not within #{seconds} s" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > finish
    sleep 0.02
  end
end

Sidekiq.redis { |r| r.flushall }
(0...JOBS).each_slice(500) { |slice| Sidekiq::Client.push_bulk("class" => Adds, "args" => slice.map { ["sum", 1] }) }
check("jobs that wait", JOBS, Sidekiq::Queue.new("work").size)
Adds.perform_in(0.3, "late", 1)
check("jobs that are scheduled", 1, Sidekiq::ScheduledSet.new.size)
Fails.perform_async("tries")

launcher = Sidekiq::Launcher.new(Sidekiq.options.merge(queues: ["work"], concurrency: 5, timeout: 5, tag: "test", labels: []))
# What its poller does each fifteen seconds or so.
scheduler = Sidekiq::Scheduled::Enq.new
launcher.run
counter = ->(name) { Sidekiq.redis { |r| r.get(name) }.to_i }
begin
  wait_for("all jobs", 60) { counter["sum"] == JOBS }
  wait_for("the scheduled job and the one that failed once", 30) do
    scheduler.enqueue_jobs
    # Its own wait is some seconds, by chance.
    Sidekiq::RetrySet.new.each(&:retry)
    counter["late"] == 1 && counter["tries"] == 2
  end
  wait_for("the work's end", 10) { Sidekiq::Queue.new("work").size.zero? && Sidekiq::RetrySet.new.size.zero? }
ensure
  launcher.stop
end
check("jobs that are dead", 0, Sidekiq::DeadSet.new.size)
puts "Sidekiq #{Sidekiq::VERSION} works"
