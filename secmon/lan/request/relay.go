package request

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Refusal is why a client's requests are passed on no further.
type Refusal struct {
	// Request is the one of HTTP that is not allowed, Name the name that may not be asked for.
	// If what was said could not be read there is neither.
	Request *Head
	Name    string
	// First says that nothing was passed on before.
	First bool
	why   error
}

func (r *Refusal) Error() string {
	if r.Request != nil {
		return fmt.Sprintf("%s %s%s is not declared", r.Request.Method, r.Request.Host, r.Request.Path)
	}
	if r.Name != "" {
		return "the name " + r.Name + " is not declared"
	}
	return r.why.Error()
}

// Unwrap is what could not be read, nil if it could.
func (r *Refusal) Unwrap() error { return r.why }

// Relay passes a client's requests on to a server, each as soon as its head is whole and
// allowed. The error is a [Refusal] for one that is not passed on, nil when the client
// has ended behind a whole one.
func Relay(server io.Writer, client io.Reader, allowed func(*Head) bool) error {
	in := bufio.NewReaderSize(client, MaxHead)
	var head []byte
	for first := true; ; first = false {
		var err error
		head, err = readHead(in, head[:0])
		if err == io.EOF && len(head) == 0 {
			return nil
		}
		if err != nil {
			return refusal(err, first)
		}
		h, err := ReadHead(head)
		if err != nil {
			return &Refusal{First: first, why: err}
		}
		if !allowed(h) {
			return &Refusal{Request: h, First: first}
		}
		if _, err := server.Write(head); err != nil {
			return err
		}
		if h.Chunked {
			err = relayChunks(server, in)
		} else {
			_, err = io.CopyN(server, in, h.Length)
		}
		if err != nil {
			return refusal(err, false)
		}
	}
}

// refusal is err as Relay returns it: of reading and writing as it is.
func refusal(err error, first bool) error {
	for _, ours := range []error{errLong, errLine, errChunk, errField} {
		if errors.Is(err, ours) {
			return &Refusal{First: first, why: err}
		}
	}
	return err
}

// line reads a line with its CR LF.
func line(in *bufio.Reader, most int) ([]byte, error) {
	l, err := in.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(l) > most:
		return nil, errLong
	case err != nil:
		return l, err
	case len(l) < 2 || bytes.IndexByte(l, '\r') != len(l)-2:
		return nil, errLine
	}
	return l, nil
}

// readHead reads lines up to an empty one.
func readHead(in *bufio.Reader, head []byte) ([]byte, error) {
	for {
		l, err := line(in, MaxHead-len(head))
		head = append(head, l...)
		if err != nil || len(l) == 2 {
			return head, err
		}
	}
}

// maxChunkLine bounds the line before a chunk in bytes.
const maxChunkLine = 64

// relayChunks passes a body in chunks on (RFC 9112, 7.1), without extensions.
func relayChunks(server io.Writer, in *bufio.Reader) error {
	for {
		l, err := line(in, maxChunkLine)
		if err != nil {
			return err
		}
		size := string(l[:len(l)-2])
		n, err := strconv.ParseUint(size, 16, 40)
		if err != nil || strings.ContainsAny(size, "+-_") {
			return errChunk
		}
		if _, err := server.Write(l); err != nil {
			return err
		}
		if n == 0 {
			return relayTrailer(server, in)
		}
		if _, err := io.CopyN(server, in, int64(n)); err != nil {
			return err
		}
		if l, err = line(in, 2); err != nil {
			return err
		}
		if _, err := server.Write(l); err != nil {
			return err
		}
	}
}

// relayTrailer passes the fields behind a body on, none of which decides anything.
func relayTrailer(server io.Writer, in *bufio.Reader) error {
	t, err := readHead(in, nil)
	if err != nil {
		return err
	}
	for l := range strings.SplitSeq(strings.TrimSuffix(string(t), "\r\n\r\n"), "\r\n") {
		if f := (fields{}); l != "" && (f.add(l) != nil || f.hosts+f.lengths+f.codings > 0) {
			return errField
		}
	}
	_, err = server.Write(t)
	return err
}
