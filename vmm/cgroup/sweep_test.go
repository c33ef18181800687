package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Of what looks like groups, those of processes that are gone are removed.
func TestSweep(t *testing.T) {
	gone := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$") // the lab has no other program
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	stale := fmt.Sprintf("warder-%d-a-1", gone.Process.Pid)
	stay := []string{fmt.Sprintf("warder-%d-b-2", os.Getpid()), "warder-0-c-3", "warder--1-d", "warder-x", "other-" + stale}
	for _, name := range append(stay, stale) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := sweep(dir); n != 1 || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	slices.Sort(stay)
	if !slices.Equal(left, stay) {
		t.Errorf("left: %q", left)
	}
	if n, err := sweep(""); n != 0 || err != nil {
		t.Errorf("without groups: %d, %v", n, err)
	}
}
