package introspect

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseOwn(t *testing.T) {
	got := ParseOwn([]string{"1", "self", "20", "acpi", "-3x"}, map[string]string{
		"/proc/modules": "virtio_net 94208 0 - Live 0xffffffffc0000000\nvirtio 1 2 a,b, Live 0x0\n\n",
		"/proc/net/tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
			"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0 0 10 0\nrubbish\n",
		"/proc/net/tcp6": "   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 99 1\n",
		"/proc/net/unix": "Num       RefCount Protocol Flags    Type St Inode Path\n0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/x\n0: 1 1 1 1 1 0\n",
	})
	want := OwnView{
		Processes: map[int]bool{1: true, 20: true},
		Modules:   map[string]bool{"virtio_net": true, "virtio": true},
		Sockets:   map[string]bool{"tcp 127.0.0.1:8080 0.0.0.0:0": true, "tcp6 [::1]:22 [::]:0": true, "unix 4711": true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// What a guest hides from itself, or makes up, stands out; what comes and goes
// while it is asked does not.
func TestCompare(t *testing.T) {
	l, tasks := village(t)
	l.module("one")
	l.module("rootkit")
	l.socket(tasks["daemon"], 3, 53, true)
	l.unixTable()
	asked, missed := 0, 1
	own := func(context.Context) (OwnView, error) {
		asked++
		v := OwnView{
			Processes: map[int]bool{1: true, 20: true, 21: true, 77: true},
			Modules:   map[string]bool{"one": true},
			Sockets:   map[string]bool{"udp 0.0.0.0:53 0.0.0.0:0": true},
		}
		if asked == 1 { // is gone the second time
			v.Processes[50], v.Modules["short"] = true, true
		}
		if asked == missed { // of a list that changed while it was read
			clear(v.Sockets)
		}
		return v, nil
	}
	got, err := l.live.Compare(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	want := []Difference{{"process", "30", "ghost", "guest"}, {"process", "77", "", "host"}, {"module", "rootkit", "rootkit", "guest"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if asked != 3 {
		t.Errorf("the guest was asked %d times", asked)
	}
	// What it does not see twice it does not see.
	asked, missed = 0, 0
	hide := func(ctx context.Context) (OwnView, error) {
		v, err := own(ctx)
		clear(v.Sockets)
		return v, err
	}
	if got, err = l.live.Compare(t.Context(), hide); err != nil || !slices.ContainsFunc(got, func(d Difference) bool { return d.Kind == "socket" && d.From == "guest" }) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzOwn(f *testing.F) {
	f.Add("/proc/net/tcp", "   0: 0100007F:1F90 00000000:0000 0A 0:0 00:00000000 0 0 0 12345 1")
	f.Add("/proc/net/unix", "0: 1 1 1 1 1 4711 /run/x")
	f.Add("/proc/net/udp6", "0: 000000:1 0:0 0 0 0 0 0 0 0 0")
	f.Fuzz(func(t *testing.T, path, text string) {
		ParseOwn([]string{text}, map[string]string{path: text, "/proc/modules": text})
	})
}
