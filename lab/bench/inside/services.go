package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"warder/lab/bench/measure"
)

// starts is how many cold starts are measured for each repetition of everything.
const starts = 4

// lasts is when a supervisor has lasted that was made to replace another, and some more.
const lasts = 70 * time.Second

// benchServices measures from a request for a service, which is not running, to where
// the service answers its health check, on a host that is up; what that is as a part of a
// bare machine's boot; how long a guest that bursts waits for memory; and how long there
// is no supervisor.
func benchServices(ctx context.Context, b *bench) error {
	h, err := b.startHost(ctx, `  - {name: cold, memory: 256M, health: {command: ['true'], timeout: 5m}}
  - {name: burst, memory: '128M:512M', command: [sh, -c, `+fmt.Sprintf("%q", burstScript)+`]}
`)
	if err != nil {
		return err
	}
	defer h.end()
	var times []float64
	for i := range b.repeat*starts + 1 {
		took, err := h.cold(ctx, "cold")
		if err != nil {
			return err
		}
		if i > 0 { // the first fills caches
			times = append(times, took.Seconds()*1e3)
			b.add("cold start", warderName, "ms", measure.Less, times[i-1])
		}
	}
	p50 := quantile(times, 0.5)
	b.add("cold start, p50", warderName, "ms", measure.Less, p50)
	b.add("cold start, p99", warderName, "ms", measure.Less, quantile(times, 0.99))
	for range b.repeat {
		waited, grown, err := h.burst(ctx)
		if err != nil {
			return err
		}
		b.add("memory burst, first more", warderName, "ms", measure.Less, waited.Seconds()*1e3)
		b.add("memory burst, 80 MiB", warderName, "ms", measure.Less, grown.Seconds()*1e3)
	}
	for i := range b.repeat {
		if i > 0 { // one that has not lasted a minute is followed by the next after a pause
			time.Sleep(lasts)
		}
		took, err := h.mirror(ctx)
		if err != nil {
			return err
		}
		b.add("supervisor replaced", warderName, "ms", measure.Less, took.Seconds()*1e3)
	}
	return b.ratio(ctx, p50)
}

// ratio adds how often a bare machine boots in that time.
func (b *bench) ratio(ctx context.Context, p50 float64) error {
	p := bootPeers(b.files)[0]
	m, err := b.start(ctx, p.command(guest{kernel: p.kernel, initrd: b.files.first, memory: bootMemory}), false)
	if err != nil {
		return err
	}
	defer m.end()
	if err := m.awaitMark(); err != nil {
		return err
	}
	boot := (m.to.clock - m.from.clock).Seconds() * 1e3
	b.add("bare boot", p.name, "ms", measure.Neither, boot)
	b.add("cold start, bare boots", warderName, "", measure.Less, p50/boot)
	return nil
}

// benchIdle measures the host's memory that idle services take, guests included.
func benchIdle(ctx context.Context, b *bench) error {
	const most = 50
	var list strings.Builder
	for i := range most {
		fmt.Fprintf(&list, "  - {name: idle-%d, memory: 128M}\n", i)
	}
	h, err := b.startHost(ctx, list.String())
	if err != nil {
		return err
	}
	defer h.end()
	empty, err := pss(h.cmd.Process.Pid)
	if err != nil {
		return err
	}
	running := 0
	for _, n := range []int{1, 10, most} {
		for running < n {
			if _, err := h.ask(ctx, http.MethodPost, fmt.Sprint("idle-", running), "start"); err != nil {
				if running > 1 { // what there is no room for is no failure
					b.absent(fmt.Sprint(n, " services"), err)
					return nil
				}
				return err
			}
			running++
		}
		total, err := pss(h.cmd.Process.Pid)
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("%d idle", n), warderName, "MiB", measure.Less, total)
		b.add(fmt.Sprintf("each of %d idle", n), warderName, "MiB", measure.Less, (total-empty)/float64(n))
	}
	return nil
}

// burstScript writes 80 MiB into memory, in a guest that has less, and says when its
// kernel first slowed it down, when the guest had more memory, and when all was done.
const burstScript = `mkdir -p /fill && mount -t tmpfs -o size=100m none /fill
read name start unit </proc/meminfo
{ dd if=/dev/zero of=/fill/it bs=1M count=80 status=none; read done rest </proc/uptime; echo $done >/end; } &
high=0
while [ $high -eq 0 ]; do while read key n; do if [ $key = high ]; then high=$n; fi; done </sys/fs/cgroup/commands/memory.events; done
read crossed rest </proc/uptime
now=$start
while [ $now -le $start ]; do read name now unit </proc/meminfo; done
read grown rest </proc/uptime
wait
read done </end
echo $crossed $grown $done`

// burst runs the service that bursts, and gives how long its guest had no more memory
// than at first, and how long all took, from when its kernel first slowed it down.
func (h *servicesHost) burst(ctx context.Context) (grown, done time.Duration, err error) {
	if _, err := h.ask(ctx, http.MethodPost, "burst", "start"); err != nil {
		return 0, 0, err
	}
	if _, err := h.ask(ctx, http.MethodGet, "burst", "wait"); err != nil {
		return 0, 0, err
	}
	line, err := h.lastLine(ctx, "burst")
	if err != nil {
		return 0, 0, err
	}
	var at [3]float64 // seconds of the guest's clock
	if _, err := fmt.Sscan(line, &at[0], &at[1], &at[2]); err != nil {
		return 0, 0, fmt.Errorf("burst said %q: %w", line, err)
	}
	since := func(n float64) time.Duration { return time.Duration((n - at[0]) * float64(time.Second)) }
	return since(at[1]), since(at[2]), nil
}

// quantile is the least of the values that so large a part of them does not exceed.
func quantile(values []float64, part float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return s[max(0, int(math.Ceil(part*float64(len(s))))-1)]
}
