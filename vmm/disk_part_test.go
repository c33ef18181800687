package vmm

import (
	"strings"
	"testing"
)

// TestDiskPartRefuses has parts of files that are no disks.
func TestDiskPartRefuses(t *testing.T) {
	for name, d := range map[string]Disk{
		"written to":          {Path: "d", Offset: 512, Size: 512},
		"before the file":     {Path: "d", ReadOnly: true, Offset: -512, Size: 512},
		"of negative size":    {Path: "d", ReadOnly: true, Size: -512},
		"not at a sector":     {Path: "d", ReadOnly: true, Offset: 1, Size: 512},
		"not of whole sector": {Path: "d", ReadOnly: true, Offset: 512, Size: 513},
	} {
		if _, err := (Config{Kernel: "k", Disks: []Disk{d}}).withDefaults(); err == nil || !strings.Contains(err.Error(), "a part of a file is whole sectors") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Config{Kernel: "k", Disks: []Disk{{Path: "d", ReadOnly: true, Offset: 512, Size: 1024}}}).withDefaults(); err != nil {
		t.Error(err)
	}
}
