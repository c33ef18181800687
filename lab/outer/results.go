package outer

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"

	"warder/lab/wire"
)

// sendResults writes the directories and regular files of dir to w as a tar
// stream. A directory that does not exist gives an empty one.
func sendResults(w io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	b := bufio.NewWriterSize(w, wire.MaxPayload)
	t := tar.NewWriter(b)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." || !(d.IsDir() || d.Type().IsRegular()) {
			return err
		}
		return addFile(t, root, name)
	})
	if err != nil {
		return fmt.Errorf("results in %s: %w", dir, err)
	}
	if err := t.Close(); err != nil {
		return err
	}
	return b.Flush()
}

func addFile(t *tar.Writer, root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	h.Name = name
	if info.IsDir() {
		h.Name += "/"
	}
	if err := t.WriteHeader(h); err != nil || info.IsDir() {
		return err
	}
	_, err = io.Copy(t, io.LimitReader(f, h.Size))
	return err
}
