package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"warder/lab/bench/measure"
)

func TestAddLine(t *testing.T) {
	b := &bench{name: "devices", report: new(measure.Report)}
	for line, want := range map[string]bool{
		"blk/read 250.5\r": true, "blk/latency 12": true, "error fs: no such device": true,
		"[    0.5] a/b: a message": false, "": false, "only words": false,
	} {
		if got := b.addLine("warder", line); got != want {
			t.Errorf("%q is a measurement: %v", line, got)
		}
	}
	want := []measure.Result{
		{Name: "devices/blk latency", Peer: "warder", Unit: "µs", Better: measure.Less, Values: []float64{12}},
		{Name: "devices/blk read", Peer: "warder", Unit: "MB/s", Better: measure.More, Values: []float64{250.5}},
	}
	byName := cmpopts.SortSlices(func(a, b measure.Result) bool { return a.Name < b.Name })
	if diff := cmp.Diff(want, b.report.Results, byName); diff != "" || len(b.report.Absent) != 1 {
		t.Errorf("absent %v (-want +got):\n%s", b.report.Absent, diff)
	}
}

// Every peer has a command line, whatever it is to run.
func TestPeers(t *testing.T) {
	f := files{vmlinux: "/v", bzImage: "/b", first: "/f", work: "/w"}
	for _, p := range bootPeers(f) {
		if args := p.command(guest{kernel: p.kernel, initrd: f.first, memory: 64}); len(args) < 3 || p.kernel == "" {
			t.Errorf("%s: %q", p.name, args)
		}
	}
	for i, p := range devicePeers(f) {
		for _, d := range devices {
			if all := i < 2; all && len(p.options[d]) == 0 { // warder, and what it is held against
				t.Errorf("%s has no options for %s", p.name, d)
			}
		}
		for d := range p.servers {
			if len(p.options[d]) == 0 {
				t.Errorf("%s serves %s, and has no options for it", p.name, d)
			}
		}
	}
	if memoryPeers(f)[0].together == nil {
		t.Error("warder runs several machines in one process")
	}
}

func TestQuantile(t *testing.T) {
	v := []float64{5, 1, 4, 2, 3}
	for part, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(v, part); got != want {
			t.Errorf("%v: %v, want %v", part, got, want)
		}
	}
}
