package proto

import (
	"encoding/json"
	"fmt"
	"io"
)

// Greet is the guest's side of the opening of a control connection: it writes
// the preamble and hello, then reads the host's hello. Hello's version is
// filled in.
func Greet(rw io.ReadWriter, hello Hello) error {
	if err := WritePreamble(rw, Preamble{Role: Control}); err != nil {
		return err
	}
	if err := writeHello(rw, hello); err != nil {
		return err
	}
	_, err := readHello(rw)
	return err
}

// Welcome is the host's side, after the preamble: it reads the guest's hello
// and answers.
func Welcome(rw io.ReadWriter) (Hello, error) {
	hello, err := readHello(rw)
	if err != nil {
		return Hello{}, err
	}
	return hello, writeHello(rw, Hello{})
}

func writeHello(w io.Writer, h Hello) error {
	h.Version = Version
	p, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return WriteFrame(w, p)
}

func readHello(r io.Reader) (Hello, error) {
	p, err := ReadFrame(r)
	if err != nil {
		return Hello{}, fmt.Errorf("hello: %w", err)
	}
	var h Hello
	if err := json.Unmarshal(p, &h); err != nil {
		return Hello{}, fmt.Errorf("hello: %w", err)
	}
	if h.Version != Version {
		return Hello{}, &VersionError{h.Version}
	}
	return h, nil
}
