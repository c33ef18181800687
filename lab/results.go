package lab

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// results receives the tar stream of a results directory and unpacks it as it
// comes. Nothing leaves the directory it is unpacked into, whatever the
// stream says.
type results struct {
	w    *io.PipeWriter // nil when no results were asked for
	done chan error
}

func newResults(c Command) (*results, error) {
	if c.Results == "" {
		return &results{}, nil
	}
	if err := os.MkdirAll(c.ResultsTo, 0o755); err != nil {
		return nil, fmt.Errorf("lab: results: %w", err)
	}
	root, err := os.OpenRoot(c.ResultsTo)
	if err != nil {
		return nil, fmt.Errorf("lab: results: %w", err)
	}
	r, w := io.Pipe()
	s := &results{w: w, done: make(chan error, 1)}
	go func() {
		defer root.Close()
		err := unpack(root, r)
		r.CloseWithError(err)
		s.done <- err
	}()
	return s, nil
}

func (r *results) write(p []byte) error {
	if r.w == nil {
		return errors.New("results that were not asked for")
	}
	_, err := r.w.Write(p)
	return err
}

// finish waits until everything is unpacked.
func (r *results) finish() error {
	if r.w == nil {
		return nil
	}
	r.w.Close()
	return <-r.done
}

// abandon ends the unpacking when the stream broke off.
func (r *results) abandon() {
	if r.w != nil {
		r.w.CloseWithError(io.ErrUnexpectedEOF)
	}
}

func unpack(root *os.Root, r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			// Padding after the end must be read, or its writer blocks.
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(path.Clean(h.Name), 0o755)
		case tar.TypeReg:
			err = unpackFile(root, path.Clean(h.Name), h.FileInfo().Mode().Perm(), t)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, mode os.FileMode, r io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode|0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
