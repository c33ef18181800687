package request

import (
	"bytes"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"warder/secmon/lan/app"
)

// MaxHead bounds the head of a request in bytes.
const MaxHead = app.MaxHead

// Head is the head of a request of HTTP/1.
type Head struct {
	Method string
	Host   string // without a port
	Path   string // decoded, without the query
	// Length is how many bytes of a body follow, if it is not in chunks.
	Length  int64
	Chunked bool
}

// Why a request is not passed on. The texts are for logs and events.
var (
	errHead    = errors.New("no head of HTTP/1")
	errLong    = errors.New("a head that is too long")
	errLine    = errors.New("a line that does not end in CR LF, or has either in its middle")
	errField   = errors.New("a field that can be read in more than one way")
	errLength  = errors.New("a body of more than one length")
	errHost    = errors.New("no host, or more than one")
	errPath    = errors.New("a path that is not in its normal form")
	errChunk   = errors.New("a chunk that is none")
	errConnect = errors.New("a tunnel is asked for")
)

// ReadHead reads a head, with the empty line at its end.
func ReadHead(b []byte) (*Head, error) {
	b, ok := bytes.CutSuffix(b, []byte("\r\n\r\n"))
	if !ok {
		return nil, errHead
	}
	lines := strings.Split(string(b), "\r\n")
	for _, l := range lines {
		if strings.ContainsAny(l, "\r\n\x00") {
			return nil, errLine
		}
	}
	f := fields{}
	for _, l := range lines[1:] {
		if err := f.add(l); err != nil {
			return nil, err
		}
	}
	h := &Head{Length: f.length, Chunked: f.chunked}
	var err error
	if h.Method, h.Host, h.Path, err = requestLine(lines[0], &f); err != nil {
		return nil, err
	}
	return h, nil
}

// fields are those that decide.
type fields struct {
	hosts, lengths, codings int
	host                    string
	length                  int64
	chunked                 bool
}

func (f *fields) add(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !token(name) {
		return errField // folded ones begin with a blank
	}
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return errField
		}
	}
	switch strings.ToLower(name) {
	case "host":
		f.hosts++
		f.host = value
	case "content-length":
		f.lengths++
		if value == "" || strings.Trim(value, "0123456789") != "" {
			return errLength
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return errLength
		}
		f.length = n
	case "transfer-encoding":
		f.codings++
		f.chunked = strings.EqualFold(value, "chunked")
	}
	if f.lengths+f.codings > 1 || f.codings > 0 && !f.chunked {
		return errLength
	}
	return nil
}

// token reports whether s is one (RFC 9110, 5.6.2).
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// requestLine reads METHOD TARGET HTTP/1.x with what the fields have to say.
func requestLine(line string, f *fields) (method, host, path string, err error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !token(parts[0]) || parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		return "", "", "", errHead
	}
	if parts[2] == "HTTP/1.0" && f.chunked {
		return "", "", "", errLength
	}
	method, target := parts[0], parts[1]
	if method == "CONNECT" {
		return "", "", "", errConnect
	}
	if f.hosts > 1 || f.hosts == 0 && parts[2] == "HTTP/1.1" {
		return "", "", "", errHost
	}
	if rest, ok := strings.CutPrefix(target, "http://"); ok { // as to a proxy
		authority, after, found := strings.Cut(rest, "/")
		if !found || authority != f.host {
			return "", "", "", errHost
		}
		target = "/" + after
	}
	if host, err = hostOf(f.host); err != nil {
		return "", "", "", err
	}
	if method == "OPTIONS" && target == "*" {
		return method, host, target, nil
	}
	raw, _, _ := strings.Cut(target, "?")
	path, err = url.PathUnescape(raw)
	if err != nil || strings.ContainsAny(target, "#\x7f") || !normal(path) || strings.Contains(strings.ToLower(raw), "%2f") || strings.Contains(path, "%") {
		return "", "", "", errPath
	}
	return method, host, path, nil
}

// hostOf is a Host field without its port.
func hostOf(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, ""
	}
	if strings.Trim(port, "0123456789") != "" || host == "" || strings.ContainsAny(host, " \t/@,\\?#") || strings.ContainsFunc(host, func(c rune) bool { return c > 0x7e }) {
		return "", errHost
	}
	return host, nil
}

// normal reports whether a path is what any program makes of it.
func normal(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") {
		return false
	}
	for i := range len(path) {
		if c := path[i]; c < ' ' || c == 0x7f || c == '\\' || c == ';' {
			return false
		}
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	return true
}
