package app

import (
	"bytes"
	"strconv"
	"strings"
)

// MaxHead is how long the head of a request or an answer may be, in bytes. Servers
// take 8 KiB (nginx, Apache) to 16.
const MaxHead = 16 << 10

// Head is the head of a request or, with a status, of an answer (RFC 9112).
type Head struct {
	Method, Host, Path, Query, UserAgent string
	Status                               uint16
}

// follows is what of a message comes behind its head.
type follows uint8

const (
	head       follows = iota // the next head
	body                      // as many bytes as were announced
	chunkSize                 // the line before a chunk
	chunkEnd                  // the line end behind a chunk
	trailer                   // lines up to an empty one
	everything                // all there is
)

// Exchange reads the heads of one connection. The zero value is ready.
type Exchange struct {
	at      [2]follows // by side
	left    [2]int64   // bytes of a body or chunk
	heads   uint8      // requests for a head alone that wait for their answers
	waiting uint8      // requests that wait
}

// Next takes the first bytes that a side has said and nobody has read. It gives a head if
// there is a whole one, and how many bytes are done with; skip is how many more nobody
// has to look at. Nothing used means that more bytes are needed. ok is false when what is
// said is no HTTP any more.
func (e *Exchange) Next(side int, p []byte) (h *Head, used int, skip int64, ok bool) {
	switch e.at[side] {
	case everything:
		return nil, len(p), 1 << 62, true
	case body:
		e.at[side] = head
		return nil, 0, e.left[side], true
	case chunkSize, chunkEnd, trailer:
		return e.line(side, p)
	}
	end := bytes.Index(p, []byte("\r\n\r\n"))
	n := 4
	if bare := bytes.Index(p, []byte("\n\n")); bare >= 0 && (end < 0 || bare < end) {
		end, n = bare, 2
	}
	if end < 0 {
		if len(p) >= MaxHead {
			return nil, 0, 0, false
		}
		return nil, 0, 0, len(p) < 4 || begins(side, p)
	}
	h, length, chunked, ok := parse(side, p[:end])
	if !ok {
		return nil, 0, 0, false
	}
	e.after(side, h, length, chunked)
	if e.at[side] == body {
		e.at[side] = head
		return h, end + n, e.left[side], true
	}
	return h, end + n, 0, true
}

func begins(side int, p []byte) bool {
	if side == server {
		return bytes.HasPrefix(p, []byte("HTTP/1.")) || len(p) < 7
	}
	return httpMethod(p) || len(p) < 8
}

// line reads one line of a body in chunks.
func (e *Exchange) line(side int, p []byte) (h *Head, used int, skip int64, ok bool) {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		return nil, 0, 0, len(p) < maxText
	}
	line := bytes.TrimSpace(p[:i])
	switch e.at[side] {
	case trailer:
		if len(line) == 0 {
			e.at[side] = head
		}
		return nil, i + 1, 0, true
	case chunkEnd:
		e.at[side] = chunkSize
		return nil, i + 1, 0, len(line) == 0
	}
	digits, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseInt(string(bytes.TrimSpace(digits)), 16, 62)
	if err != nil || n < 0 {
		return nil, 0, 0, false
	}
	if n == 0 {
		e.at[side] = trailer
		return nil, i + 1, 0, true
	}
	e.at[side] = chunkEnd
	return nil, i + 1, n, true
}

// after decides what comes behind a head.
func (e *Exchange) after(side int, h *Head, length int64, chunked bool) {
	e.at[side] = head
	e.left[side] = max(length, 0)
	without := false
	if side == client {
		if e.waiting++; h.Method == "HEAD" {
			e.heads++
		}
		if h.Method == "CONNECT" {
			e.at[client] = everything
			return
		}
	} else {
		switch {
		case h.Status == 101:
			e.at = [2]follows{everything, everything}
			return
		case h.Status < 200:
			without = true
		default:
			e.waiting = max(e.waiting, 1) - 1
			without = h.Status == 204 || h.Status == 304 || e.heads > 0
			e.heads = max(e.heads, 1) - 1
		}
	}
	switch {
	case without:
	case chunked:
		e.at[side] = chunkSize
	case length > 0:
		e.at[side] = body
	case length < 0 && side == server:
		e.at[side] = everything // up to the end of the connection
	}
}

// parse reads a head without its empty line. Length is -1 where none is announced.
func parse(side int, p []byte) (h *Head, length int64, chunked, ok bool) {
	h, length = &Head{}, -1
	first, rest, _ := bytes.Cut(p, []byte("\n"))
	first = bytes.TrimSuffix(first, []byte("\r"))
	if side == server {
		version, status, found := bytes.Cut(first, []byte(" "))
		code, _, _ := bytes.Cut(status, []byte(" "))
		n, err := strconv.ParseUint(string(code), 10, 10)
		if !found || !bytes.HasPrefix(version, []byte("HTTP/1.")) || err != nil || n < 100 {
			return nil, 0, false, false
		}
		h.Status = uint16(n)
	} else {
		method, target, found := bytes.Cut(first, []byte(" "))
		i := bytes.LastIndex(target, []byte(" HTTP/1."))
		if !found || i < 0 || !httpMethod(first) {
			return nil, 0, false, false
		}
		h.Method = Text(method)
		h.target(target[:i])
	}
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch strings.ToLower(Text(name)) {
		case "host":
			h.Host = Text(value)
		case "user-agent":
			h.UserAgent = Text(value)
		case "content-length":
			n, err := strconv.ParseInt(string(value), 10, 62)
			if err != nil || n < 0 {
				return nil, 0, false, false
			}
			length = n
		case "transfer-encoding":
			chunked = strings.HasSuffix(strings.ToLower(Text(value)), "chunked")
		}
	}
	return h, length, chunked, true
}

// target reads what a request is for: a path, or a whole URL.
func (h *Head) target(p []byte) {
	if i := bytes.Index(p, []byte("://")); i > 0 && i < 8 && p[0] != '/' {
		p = p[i+3:]
		j := bytes.IndexByte(p, '/')
		if j < 0 {
			j = len(p)
		}
		h.Host, p = Text(p[:j]), p[j:]
	}
	path, query, _ := bytes.Cut(p, []byte("?"))
	h.Path, h.Query = Text(path), Text(query)
}
