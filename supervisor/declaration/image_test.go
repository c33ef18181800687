package declaration

import "testing"

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
