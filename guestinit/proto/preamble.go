package proto

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// A Role says what a connection carries.
type Role uint8

// The roles of a connection.
const (
	Control Role = iota // calls, replies, notices
	Stdin               // host to guest
	Stdout              // guest to host
	Stderr              // guest to host
	TTY                 // both directions, instead of the other three
	Secret              // one question and its answer, see package secret
	roles               // count
)

func (r Role) String() string {
	switch r {
	case Control:
		return "control"
	case Stdin:
		return "stdin"
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	case TTY:
		return "tty"
	case Secret:
		return "secret"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// A Token admits the streams of one command. The host draws it at random, so
// that a program inside the guest cannot take over a stream by dialling first.
type Token [16]byte

// NewToken draws a token.
func NewToken() (t Token) {
	rand.Read(t[:]) // never fails: crypto/rand.Read
	return t
}

// MarshalText gives the token in hexadecimal.
func (t Token) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, t[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *Token) UnmarshalText(p []byte) error {
	if len(p) != hex.EncodedLen(len(t)) {
		return fmt.Errorf("token of %d digits, want %d", len(p), hex.EncodedLen(len(t)))
	}
	_, err := hex.Decode(t[:], p)
	return err
}

// PreambleSize is the length of a preamble on the wire in bytes: the magic
// "WRDR", the version (big-endian, 2), the role (1), a zero, the token (16).
const PreambleSize = 24

const magic = "WRDR"

// A Preamble is the first thing that the guest writes on a connection.
type Preamble struct {
	Role  Role
	Token Token // of the command; zero on other connections
}

// ErrNotOurs is the error for a connection that does not start with a
// preamble: some program in the guest dialled the port.
var ErrNotOurs = errors.New("connection does not speak warder's guest protocol")

// A VersionError is a peer of another version.
type VersionError struct{ Peer int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("guest protocol version %d, this end has %d: host and initramfs are of different builds, run make build", e.Peer, Version)
}

// WritePreamble writes p with a single Write.
func WritePreamble(w io.Writer, p Preamble) error {
	b := append(make([]byte, 0, PreambleSize), magic...)
	b = binary.BigEndian.AppendUint16(b, Version)
	b = append(b, byte(p.Role), 0)
	_, err := w.Write(append(b, p.Token[:]...))
	return err
}

// ReadPreamble reads a preamble. It returns ErrNotOurs for bytes that are
// none, and a *VersionError for one of another version.
func ReadPreamble(r io.Reader) (Preamble, error) {
	var b [PreambleSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Preamble{}, err
	}
	if string(b[:4]) != magic {
		return Preamble{}, ErrNotOurs
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != Version {
		return Preamble{}, &VersionError{int(v)}
	}
	p := Preamble{Role: Role(b[6]), Token: Token(b[8:])}
	if p.Role >= roles || b[7] != 0 {
		return Preamble{}, ErrNotOurs
	}
	return p, nil
}
