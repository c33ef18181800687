package guestinit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// A File is a file of the guest that the host hands it.
type File struct {
	Path string // absolute
	Mode uint64 // permission bits
	Data []byte
}

// Archive makes the archive that holds c and files, with the directories that
// lead to them: a cpio archive to follow the base image in one initrd. The
// same input gives the same bytes.
func Archive(c Config, files ...File) ([]byte, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	files = append([]File{{Path: ConfigPath, Mode: 0o644, Data: config}}, files...)
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	made := map[string]bool{".": true}
	ino := uint64(0)
	write := func(r cpio.Record) error {
		ino++
		r = cpio.MakeReproducible(r)
		r.Ino = ino
		return w.WriteRecord(r)
	}
	var mkdir func(string) error
	mkdir = func(name string) error {
		if made[name] {
			return nil
		}
		if err := mkdir(path.Dir(name)); err != nil {
			return err
		}
		made[name] = true
		return write(cpio.Directory(name, 0o755))
	}
	for _, f := range files {
		name, ok := strings.CutPrefix(path.Clean(f.Path), "/")
		if !ok || name == "" {
			return nil, fmt.Errorf("file %q for the guest: not an absolute path", f.Path)
		}
		if err := mkdir(path.Dir(name)); err != nil {
			return nil, err
		}
		if err := write(cpio.StaticFile(name, string(f.Data), f.Mode)); err != nil {
			return nil, err
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
