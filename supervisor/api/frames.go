package api

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// execProtocol names what a connection is upgraded to: frames of a byte that says
// what it is, a length of four bytes, big-endian, and so many bytes.
const execProtocol = "warder-exec"

// The frames of execProtocol, to the server and from it.
const (
	frameInput    = 'i' // of the command
	frameInputEnd = 'e'
	frameSize     = 's' // Size as JSON
	frameSignal   = 'k' // the signal's number as JSON
	frameOutput   = 'o'
	frameError    = 'f' // what the command wrote to standard error
	frameCredit   = 'c' // how many bytes of input more may be sent, as JSON
	frameLost     = 'l' // how many bytes of output are not there, as JSON
	frameExit     = 'x' // Exit as JSON; the last frame
)

// maxFrame bounds a frame's bytes.
const maxFrame = 64 << 10

// frames writes frames whole, from any number of goroutines.
type frames struct {
	mu sync.Mutex
	w  net.Conn // since begin
}

// begin makes the connection of a request one of frames, and gives what the client
// sends. It is the caller's to close. The caller holds the lock.
func (f *frames) begin(w http.ResponseWriter) (io.Reader, error) {
	c, b, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", execProtocol); err != nil {
		c.Close()
		return nil, err
	}
	f.w = c
	return b, nil
}

func (f *frames) write(kind byte, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return writeFrame(f.w, kind, p)
}

// tell writes a value as JSON.
func (f *frames) tell(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(kind, b)
}

// frameWriter makes frames of a stream.
type frameWriter struct {
	to   *frames
	kind byte
}

func (w frameWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(len(p), n+maxFrame)]
		if err := w.to.write(w.kind, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

const frameHead = 5 // bytes

func writeFrame(w io.Writer, kind byte, p []byte) error {
	b := make([]byte, 0, frameHead+len(p))
	b = binary.BigEndian.AppendUint32(append(b, kind), uint32(len(p)))
	_, err := w.Write(append(b, p...))
	return err
}

func readFrame(r io.Reader) (kind byte, p []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes: there are %d at most", n, maxFrame)
	}
	p = make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return 0, nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return head[0], p, nil
}
