/* Has a program's time of day pass a thousand times as fast: loaded before it with LD_PRELOAD.
 *
 * Redis tells uses apart by the second. In a replay at full speed a whole cache is used within a few of them; with this
 * clock each of its looks at the time (hz 500: every 2 ms) is a new second. See check_redis_lru.py.
 */
#include <sys/time.h>
#include <time.h>

#define FACTOR 1000LL

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    static long long start;
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    long long micros = now.tv_sec * 1000000LL + now.tv_nsec / 1000;
    if (start == 0) {
        start = micros;
    }
    micros = start + (micros - start) * FACTOR;
    out->tv_sec = micros / 1000000;
    out->tv_usec = micros % 1000000;
    return 0;
}
