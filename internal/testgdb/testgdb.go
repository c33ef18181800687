// Package testgdb is a debugger's side of GDB's remote protocol, for tests of what
// is on the other.
package testgdb

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long the other side may take in all.
const patience = 3 * time.Minute

// Client is a debugger that is connected. A test that uses it ends when the
// other side does not speak as it should.
type Client struct {
	Conn net.Conn
	Acks bool // packets are acknowledged: until QStartNoAckMode

	t testing.TB
	r *bufio.Reader
}

// New makes a client of a connection, which is closed with the test.
func New(t testing.TB, conn net.Conn) *Client {
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &Client{Conn: conn, Acks: true, t: t, r: bufio.NewReader(conn)}
}

// Send sends a packet, escaped by the caller.
func (c *Client) Send(p string) {
	c.t.Helper()
	c.Raw(fmt.Sprintf("$%s#%02x", p, sum(p)))
	if c.Acks {
		if b := c.Byte(); b != '+' {
			c.t.Fatalf("%q was answered %q", p, b)
		}
	}
}

func sum(p string) (sum byte) {
	for i := range len(p) {
		sum += p[i]
	}
	return sum
}

// Raw sends bytes as they are.
func (c *Client) Raw(s string) {
	c.t.Helper()
	if _, err := c.Conn.Write([]byte(s)); err != nil {
		c.t.Fatal(err)
	}
}

// Byte gives the next byte.
func (c *Client) Byte() byte {
	c.t.Helper()
	b, err := c.r.ReadByte()
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// Closed says what reading gives when there should be nothing more.
func (c *Client) Closed() error {
	b, err := c.r.ReadByte()
	if err == nil {
		return fmt.Errorf("got %q", b)
	}
	return err
}

// Receive gives the next packet, unescaped.
func (c *Client) Receive() string {
	c.t.Helper()
	if b := c.Byte(); b != '$' {
		c.t.Fatalf("%q is no packet", b)
	}
	p, err := c.r.ReadString('#')
	if err != nil {
		c.t.Fatal(err)
	}
	p = p[:len(p)-1]
	digits := string([]byte{c.Byte(), c.Byte()})
	if want, err := strconv.ParseUint(digits, 16, 8); err != nil || byte(want) != sum(p) {
		c.t.Fatalf("packet %q has the checksum %s", p, digits)
	}
	if c.Acks {
		_, _ = c.Conn.Write([]byte("+")) // which the other side need not wait for
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '}' && i+1 < len(p) {
			i++
			b.WriteByte(p[i] ^ 0x20)
			continue
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// Call sends a packet and gives the answer.
func (c *Client) Call(p string) string {
	c.t.Helper()
	c.Send(p)
	return c.Receive()
}

// Ask checks the answer to a packet.
func (c *Client) Ask(p, want string) {
	c.t.Helper()
	if got := c.Call(p); got != want {
		c.t.Errorf("%q was answered %q, want %q", p, got, want)
	}
}
