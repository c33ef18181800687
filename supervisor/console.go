package supervisor

import (
	"io"
	"strings"
	"sync"

	"warder/guestinit/proto"
)

// tailSize is how much of a guest's serial output is kept.
const tailSize = 64 << 10

// A tail keeps the last of what is written to it, and passes all of it on.
type tail struct {
	next io.Writer // or nil

	mu    sync.Mutex
	buf   []byte // grows to tailSize, then is a ring
	start int    // the oldest byte in a full ring
}

// Write never fails: what becomes of the copy is not the guest's affair.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	for _, b := range p {
		if len(t.buf) < tailSize {
			t.buf = append(t.buf, b)
			continue
		}
		t.buf[t.start] = b
		t.start = (t.start + 1) % tailSize
	}
	t.mu.Unlock()
	if t.next != nil {
		t.next.Write(p)
	}
	return len(p), nil
}

// bytes is what is kept, oldest first.
func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(append([]byte(nil), t.buf[t.start:]...), t.buf[:t.start]...)
}

// maxLine is how much of a guest's line is quoted.
const maxLine = 200

// lines are the lines in a guest's serial output that say something, fit to
// be shown: without control characters and kernel time stamps, cut to length.
func lines(serial []byte) []string {
	var out []string
	for l := range strings.Lines(string(serial)) {
		l = strings.TrimSpace(proto.Printable(l))
		if stamp, rest, ok := strings.Cut(l, "] "); ok && strings.HasPrefix(stamp, "[") && strings.Trim(stamp, "[ .0123456789") == "" {
			l = rest
		}
		if r := []rune(l); len(r) > maxLine {
			l = string(r[:maxLine]) + "..."
		}
		if l != "" {
			out = append(out, l)
		}
	}
	return out
}
