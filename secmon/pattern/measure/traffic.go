package measure

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
)

// vms is how many machines the events are of.
const vms = 16

// act makes one event of everyday work.
type act func(rng *rand.Rand) event.Event

// everyday is what guests do all day, with what share of all events each is.
var everyday = []struct {
	share int
	act   act
}{{35, opens}, {20, runs}, {15, writes}, {10, connects}, {5, starts}, {5, flows}, {5, asks}, {5, logs}}

// Traffic makes events of everyday work, n of them, the same for a seed.
func Traffic(n int, seed uint64) []event.Event {
	rng := rand.New(rand.NewPCG(seed, 0))
	events := make([]event.Event, n)
	for i := range events {
		at := rng.IntN(100)
		for _, kind := range everyday {
			if at -= kind.share; at < 0 {
				events[i] = kind.act(rng)
				break
			}
		}
		events[i].VM, events[i].VCPU = fmt.Sprintf("vm%d", rng.IntN(vms)), int32(rng.IntN(4))
	}
	return events
}

func pick(rng *rand.Rand, list ...string) string { return list[rng.IntN(len(list))] }

var programs = []string{
	"/usr/bin/gcc", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1", "/usr/bin/ls", "/usr/bin/make", "/usr/sbin/nginx", "/usr/lib/postgresql/15/bin/postgres", "/opt/app/bin/server",
}

func process(rng *rand.Rand) event.Process {
	exe := pick(rng, programs...)
	pid := uint32(500 + rng.IntN(30000))
	return event.Process{
		PID: pid, TID: pid, Parent: pid - uint32(rng.IntN(400)), UID: 1000, EUID: 1000, User: "builder", Name: exe[strings.LastIndexByte(exe, '/')+1:],
		Exe: exe, Dir: "/srv/build/project", ParentExe: "/usr/bin/make", ParentArgs: "make\x00-j8\x00all\x00",
	}
}

func call(rng *rand.Rand, c event.Call) event.Event {
	c.FD = int32(rng.IntN(64))
	return event.Event{Kind: event.Syscall, Process: process(rng), Call: c}
}

func opens(rng *rand.Rand) event.Event {
	path := fmt.Sprintf(pick(rng, "/usr/include/linux/part%d.h", "/srv/build/project/src/module%d.c", "/usr/share/zoneinfo/Area/%d", "/var/lib/app/data/%08d.db", "/proc/self/task/%d/stat"), rng.IntN(5000))
	return call(rng, event.Call{Name: "openat", Path: path, File: event.File{Path: path, FS: "ext4", Inner: path, Inode: rng.Uint64()}, Args: [6]uint64{^uint64(99), 0x7ffe12345678}})
}

func arguments(rng *rand.Rand) string {
	return fmt.Sprintf("gcc\x00-O2\x00-Wall\x00-Iinclude\x00-c\x00src/module%d.c\x00-o\x00obj/module%d.o\x00", rng.IntN(5000), rng.IntN(5000))
}

func runs(rng *rand.Rand) event.Event {
	e := call(rng, event.Call{Name: pick(rng, "execve", "execve", "execve", "execveat")})
	e.Process.Args = arguments(rng)
	e.Call.Path, e.Call.File = e.Process.Exe, event.File{Path: e.Process.Exe, FS: "ext4", Inner: e.Process.Exe, Inode: rng.Uint64()}
	return e
}

func writes(rng *rand.Rand) event.Event {
	payload := []byte(fmt.Sprintf("2026-11-22 12:00:00 INFO request %d of client %d served in %d us\n", rng.IntN(1e6), rng.IntN(1e4), rng.IntN(1e5)))
	return call(rng, event.Call{
		Name: "write", File: event.File{Path: "/var/log/app/access.log", FS: "ext4", Inner: "/var/log/app/access.log", Inode: 77}, Flags: unix.O_WRONLY | unix.O_APPEND,
		Append: true, Size: uint64(len(payload)), Payload: payload,
	})
}

func network(rng *rand.Rand) *event.Net {
	return &event.Net{
		Flow: rng.Uint64(), Transport: "tcp", Application: "tls", Initiated: true, Host: "cache.example.org",
		Source:      netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(200))}), uint16(32768+rng.IntN(20000))),
		Destination: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(200))}), 443),
	}
}

func connects(rng *rand.Rand) event.Event {
	e := call(rng, event.Call{Name: "connect"})
	e.Net = network(rng)
	return e
}

func starts(rng *rand.Rand) event.Event {
	e := event.Event{Kind: event.Task, Action: event.Ran, Process: process(rng)}
	e.Process.Args = arguments(rng)
	return e
}

func flows(rng *rand.Rand) event.Event {
	return event.Event{Kind: event.Flow, Action: pick(rng, event.Began, event.Ended), Net: network(rng)}
}

func asks(rng *rand.Rand) event.Event {
	n := network(rng)
	n.Transport, n.Application = "udp", "dns"
	n.DNS = &event.DNS{Name: fmt.Sprintf("host%d.example.org", rng.IntN(1000)), Type: "A", Code: "NOERROR", Answers: []string{"192.0.2.7"}}
	return event.Event{Kind: event.Packet, Net: n}
}

func logs(rng *rand.Rand) event.Event {
	return event.Event{Kind: event.LogLine, Log: &event.Log{
		Program: pick(rng, "nginx", "systemd", "cron", "kernel"), Facility: "daemon", Severity: 6,
		Text: fmt.Sprintf("Started job %d of user builder, result success", rng.IntN(10000)),
	}}
}
