package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/lab/bench/measure"
)

func TestAddLines(t *testing.T) {
	b := &bench{name: "devices", report: new(measure.Report)}
	if err := b.addLines("warder", "[    0.5] a/b: a message\r\nblk/read 250.5\r\nblk/latency 12\r\n"); err != nil {
		t.Fatal(err)
	}
	want := []measure.Result{
		{Name: "devices/blk read", Peer: "warder", Unit: "MB/s", Better: measure.More, Values: []float64{250.5}},
		{Name: "devices/blk latency", Peer: "warder", Unit: "µs", Better: measure.Less, Values: []float64{12}},
	}
	if diff := cmp.Diff(want, b.report.Results); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, said := range []string{"", "only words\n"} {
		if b.addLines("warder", said) == nil {
			t.Errorf("%q is taken for measurements", said)
		}
	}
	if err := b.addLines("warder", "error blk: no /dev/vda\n"); err != nil || len(b.report.Absent) != 1 {
		t.Errorf("%v, %v", err, b.report.Absent)
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
	for _, p := range devicePeers(f) {
		for _, d := range devices {
			if len(p.options[d]) == 0 {
				t.Errorf("%s has no options for %s", p.name, d)
			}
		}
	}
	if memoryPeers(f)[0].together == nil {
		t.Error("warder runs several machines in one process")
	}
}
