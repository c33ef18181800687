package gdbstub

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
)

// packetSize is the longest packet taken, and what GDB is told of it. It has
// to hold all registers in hex, and decides how much memory goes in one packet.
const packetSize = 16 << 10

// interrupt is the byte, outside of any packet, that asks for a stop.
const interrupt = 0x03

var (
	errTooLong  = errors.New("gdbstub: a packet is longer than what was agreed on")
	errNotGDB   = errors.New("gdbstub: the other side does not speak the remote protocol of GDB")
	errBadBytes = errors.New("gdbstub: a packet ends in the middle of an escape")
)

// conn is one connection: packets both ways (GDB manual, E.1 "Overview").
type conn struct {
	r *bufio.Reader
	// bare is set when both sides have agreed to do without acknowledgements.
	bare  atomic.Bool
	begun bool // something has come

	mu   sync.Mutex // guards w and last
	w    io.Writer
	last []byte // the last packet sent, as it went
}

func newConn(rw io.ReadWriter) *conn {
	return &conn{r: bufio.NewReaderSize(rw, 4096), w: rw}
}

// read gives the next packet, unescaped, or a nil packet for the request to
// interrupt the target.
func (c *conn) read() ([]byte, error) {
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			return nil, err
		}
		switch b {
		case '$':
		case interrupt:
			return nil, nil
		case '-':
			if err := c.again(); err != nil {
				return nil, err
			}
			continue
		default:
			// A web browser can be made to connect to this machine: what it says
			// before a packet of somebody's making begins is no debugger's.
			if b != '+' && !c.begun {
				return nil, errNotGDB
			}
			continue
		}
		c.begun = true
		p, ok, err := c.body()
		if err != nil {
			return nil, err
		}
		if c.bare.Load() {
			if ok {
				return p, nil
			}
			continue
		}
		answer := "+"
		if !ok {
			answer = "-"
		}
		if err := c.write([]byte(answer)); err != nil {
			return nil, err
		}
		if ok {
			return p, nil
		}
	}
}

// body reads a packet behind its $, and says whether its checksum is right.
func (c *conn) body() (p []byte, ok bool, err error) {
	var sum byte
	p = []byte{} // an empty packet is one
	escaped := false
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			return nil, false, err
		}
		switch {
		case b == '#':
			if escaped {
				return nil, false, errBadBytes
			}
			var digits [2]byte
			if _, err := io.ReadFull(c.r, digits[:]); err != nil {
				return nil, false, err
			}
			want, err := strconv.ParseUint(string(digits[:]), 16, 8)
			return p, err == nil && byte(want) == sum, nil
		case b == '$': // the other side has begun anew
			p, sum, escaped = p[:0], 0, false
			continue
		case len(p) == packetSize:
			return nil, false, errTooLong
		}
		sum += b
		switch {
		case escaped:
			p, escaped = append(p, b^0x20), false
		case b == '}':
			escaped = true
		default:
			p = append(p, b)
		}
	}
}

// send sends a packet, its bytes escaped.
func (c *conn) send(p []byte) error {
	out := append(make([]byte, 0, len(p)+8), '$')
	var sum byte
	for _, b := range p {
		if b == '#' || b == '$' || b == '}' || b == '*' {
			out, sum, b = append(out, '}'), sum+'}', b^0x20
		}
		out, sum = append(out, b), sum+b
	}
	out = fmt.Appendf(out, "#%02x", sum)
	c.mu.Lock()
	c.last = out
	c.mu.Unlock()
	return c.write(out)
}

// again sends the last packet once more.
func (c *conn) again() error {
	c.mu.Lock()
	last := bytes.Clone(c.last)
	c.mu.Unlock()
	return c.write(last)
}

func (c *conn) write(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.w.Write(p)
	return err
}
