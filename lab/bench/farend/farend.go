// Package farend is the far end of a connection that is measured.
package farend

import (
	"io"
	"net"
)

// Answer takes size bytes, answers with one, sends as many and sends back what then
// comes.
func Answer(c io.ReadWriter, size int) error {
	if _, err := io.CopyN(io.Discard, c, int64(size)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{'k'}); err != nil {
		return err
	}
	block := make([]byte, min(size, 1<<20))
	for range size / len(block) {
		if _, err := c.Write(block); err != nil {
			return err
		}
	}
	_, err := io.Copy(c, onlyReader{c})
	return err
}

// onlyReader keeps io.Copy from a shortcut that waits for more than a byte.
type onlyReader struct{ io.Reader }

// Serve answers those who connect, until l is closed.
func Serve(l net.Listener, size int) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = Answer(c, size) // who measures says what went wrong
		}()
	}
}
