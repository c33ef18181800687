package measure

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	r := &Report{Arch: "amd64", About: map[string]string{"guest kernel": "6.12"}}
	r.Add("boot/time", "warder", "ms", Less, 3)
	r.Add("boot/time", "qemu", "ms", Less, 7)
	r.Add("boot/time", "warder", "ms", Less, 1)
	r.Absent = append(r.Absent, Absent{"boot", "gokvm", "no such program"})
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	ours, ok := got.Find("boot/time", "warder")
	if !ok || ours.Min() != 1 || ours.Max() != 3 || ours.Median() != 2 {
		t.Errorf("%v: %v to %v, median %v", ours, ours.Min(), ours.Max(), ours.Median())
	}
}

func TestMerge(t *testing.T) {
	r := &Report{Arch: "arm64", About: map[string]string{"guest kernel": "6.12"}}
	r.Add("boot/time", "warder", "ms", Less, 3)
	other := &Report{About: map[string]string{"peer": "9.0"}, Absent: []Absent{{"memory", "gokvm", "no such program"}}}
	other.Add("memory/1 VM", "warder", "MiB", Less, 9)
	other.Add("boot/time", "warder", "ms", Less, 4)
	r.Merge(other)
	want := &Report{
		Arch: "arm64", About: map[string]string{"guest kernel": "6.12", "peer": "9.0"},
		Results: []Result{{"boot/time", "warder", "ms", Less, []float64{3, 4}}, {"memory/1 VM", "warder", "MiB", Less, []float64{9}}},
		Absent:  other.Absent,
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, s := range []string{"", "{", `{"results": [{"name": "x", "peer": "y"}]}`, `{"results": [{"values": [1]}]}`} {
		if _, err := Read(strings.NewReader(s)); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
