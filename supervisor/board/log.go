package board

import (
	"io"
	"os"
	"path/filepath"
	"sync"
)

// logPath is where the log is kept, in memory: a medium that is written all the
// time wears out.
const logPath = "/run/log/warder.log"

// maxLog bounds the log in bytes; as much of what was before is kept beside it.
const maxLog = 1 << 20

// A log goes to the console and is kept.
type log struct {
	mu      sync.Mutex
	console io.Writer
	path    string
	limit   int64
	file    *os.File // nil until there is somewhere to keep it
	size    int64
}

func newLog(console io.Writer, path string) *log {
	return &log{console: console, path: path, limit: maxLog}
}

// Write does not fail: a machine without a console still has its log, and the
// other way round.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(p)
	_, _ = l.console.Write(p)
	return len(p), nil
}

func (l *log) keep(p []byte) {
	if l.file != nil && l.size+int64(len(p)) > l.limit {
		l.file.Close()
		l.file = nil
		_ = os.Rename(l.path, l.path+".1") // what fails here costs old lines alone
	}
	if l.file == nil {
		if os.MkdirAll(filepath.Dir(l.path), 0o755) != nil {
			return
		}
		f, err := os.Create(l.path)
		if err != nil {
			return
		}
		l.file, l.size = f, 0
	}
	n, _ := l.file.Write(p)
	l.size += int64(n)
}
