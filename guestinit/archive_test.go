package guestinit

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
)

func TestArchive(t *testing.T) {
	config := Config{Modules: []string{"/lib/modules/a.ko"}}
	files := []File{
		{Path: "/lib/modules/a.ko", Mode: 0o644, Data: []byte("module")},
		{Path: "/init", Mode: 0o755, Data: []byte("program")},
	}
	b, err := Archive(config, files...)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Archive(config, files...)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("the same input gave other bytes (error %v)", err)
	}
	if len(b)%4 != 0 {
		t.Errorf("%d bytes: the next archive in an initrd starts at a multiple of 4", len(b))
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	contents := make(map[string][]byte)
	for _, r := range records {
		names = append(names, r.Name)
		data := make([]byte, r.FileSize)
		if r.ReaderAt != nil && r.FileSize > 0 {
			if _, err := r.ReadAt(data, 0); err != nil {
				t.Fatal(err)
			}
		}
		contents[r.Name] = data
	}
	// A parent comes before what is in it, once.
	want := []string{"etc", "etc/warder", "etc/warder/config.json", "lib", "lib/modules", "lib/modules/a.ko", "init"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	var got Config
	if err := json.Unmarshal(contents["etc/warder/config.json"], &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if s := string(contents["init"]); s != "program" {
		t.Errorf("init holds %q", s)
	}
	if _, err := Archive(config, File{Path: "relative"}); err == nil {
		t.Error("a relative path was taken")
	}
}
