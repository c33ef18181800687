package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"warder/supervisor/hosting"
)

func TestUsages(t *testing.T) {
	at := time.Now()
	look := func(name string, starts int, after time.Duration, cpu time.Duration, disk uint64) hosting.Stats {
		return hosting.Stats{Name: name, Starts: starts, Time: at.Add(after), Use: hosting.Use{
			CPUTime: cpu, IO: hosting.IO{DiskRead: disk, ShareRequests: disk / 2, NetFrames: 2 * disk}, Exits: map[string]uint64{"io": disk, "mmio": disk},
		}}
	}
	before := []hosting.Stats{look("a", 1, 0, time.Second, 100), look("again", 1, 0, time.Hour, 1<<40), look("gone", 1, 0, 0, 0)}
	now := []hosting.Stats{look("a", 1, 2*time.Second, 4*time.Second, 300), look("again", 2, 2*time.Second, time.Second, 5), look("new", 1, 2*time.Second, time.Second, 5)}
	list := usages(before, now)
	if len(list) != 3 || list[0].CPUs != 1.5 || list[0].Rate != (rates{DiskRead: 100, ShareRequests: 50, NetFrames: 200, Exits: 200}) {
		t.Errorf("%+v", list)
	}
	for _, u := range list[1:] { // another VM than before, or none before
		if u.CPUs != 0 || u.Rate != (rates{}) {
			t.Errorf("%+v", u)
		}
	}
	var out bytes.Buffer
	list[1].Guest = &hosting.GuestUse{Load: [3]float64{0.5}, Pressure: &hosting.Pressure{CPU: 12, IO: 3}}
	if err := errors.Join(printUse(&out, list), printRates(&out, list)); err != nil || !strings.Contains(out.String(), "150.0%") || !strings.Contains(out.String(), "12/0/3") || !strings.Contains(out.String(), " 750 ") || !strings.Contains(out.String(), " 250 ") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// What is typed reaches the command up to the keys that detach, however it is cut up.
func TestDetachKeys(t *testing.T) {
	for _, test := range []struct {
		in, want string
		detached bool
	}{
		{"hello\n", "hello\n", false},
		{"a\x10b\x11c", "a\x10b\x11c", false},
		{"a\x10\x10b", "a\x10\x10b", false},
		{"ab\x10\x11never", "ab", true},
		{"\x10\x10\x11", "\x10", true},
		{"\x10\x11", "", true},
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(test.in), "bytes": iotest.OneByteReader(strings.NewReader(test.in))} {
			detached := false
			d := &detaching{r: r, detach: func() { detached = true }}
			got, err := io.ReadAll(d)
			if detached != test.detached || (err == nil) == test.detached {
				t.Errorf("%q %s: detached %v, error %v", test.in, name, detached, err)
			}
			if string(got) != test.want {
				t.Errorf("%q %s: %q, want %q", test.in, name, got, test.want)
			}
		}
	}
}
