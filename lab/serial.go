package lab

import (
	"bytes"
	"strings"
	"sync"
)

// A tail keeps the last bytes written to it: of a serial console the lines
// that tell why a machine died.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailSize; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

// lines returns up to n last lines, without carriage returns.
func (t *tail) lines(n int) []string {
	t.mu.Lock()
	b := bytes.TrimSpace(bytes.ReplaceAll(t.buf, []byte("\r"), nil))
	t.mu.Unlock()
	if len(b) == 0 {
		return nil
	}
	all := strings.Split(string(b), "\n")
	return all[max(0, len(all)-n):]
}

// panicLine returns the line in which the kernel says that it panicked.
func (t *tail) panicLine() (string, bool) {
	for _, l := range t.lines(tailSize) {
		if strings.Contains(l, "Kernel panic - not syncing") {
			return l, true
		}
	}
	return "", false
}
