package declaration

import (
	"strings"
	"testing"
)

func TestParseImage(t *testing.T) {
	for s, want := range map[string]Image{
		"alpine":           {Name: "index.docker.io/library/alpine:latest"},
		"ghcr.io/a/b:1":    {Name: "ghcr.io/a/b:1"},
		"localhost:5000/a": {Name: "localhost:5000/a:latest"},
		"oci:dir":          {Kind: ImageLayout, Name: "dir"},
		"oci:/a:b/dir:tag": {Kind: ImageLayout, Name: "/a:b/dir", Tag: "tag"},
		"oci:/a:b/dir":     {Kind: ImageLayout, Name: "/a:b/dir"},
		"tar:x.tar:3":      {Kind: ImageArchive, Name: "x.tar", Tag: "3"},
		"dir:/with:colon":  {Kind: ImageDir, Name: "/with:colon"},
		"dir:.":            {Kind: ImageDir, Name: "."},
		"disk:/a:b/c.img":  {Kind: ImageDisk, Name: "/a:b/c.img"},
		"disk:c.img:2":     {Kind: ImageDisk, Name: "c.img", Tag: "2"},
	} {
		got, err := ParseImage(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, want)
		}
		if again, err := ParseImage(got.String()); err != nil || again != got {
			t.Errorf("%s: written %s, read %+v, %v", s, got, again, err)
		}
	}
}

func TestParseImageRefuses(t *testing.T) {
	for s, want := range map[string]string{
		"/srv/alpine":  "of what kind",
		"disk:":        "give a registry's reference",
		"disk:c.img:":  "number of a partition",
		"disk:c.img:0": "number of a partition",
		"disk:a:root":  "number of a partition",
		"disk:a:+1":    "number of a partition",
		"disk:a:129":   "number of a partition",
	} {
		if i, err := ParseImage(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want an error that says %q", s, i, err, want)
		}
	}
}
