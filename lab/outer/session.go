package outer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"warder/lab/wire"
)

// strayDelay is how long output is still awaited after the command ended,
// from processes that it left behind.
const strayDelay = 2 * time.Second

// The exit statuses of a command that could not be run, as shells have them.
const (
	statusNotExecutable = 126
	statusNotFound      = 127
)

var defaultEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root",
	"TMPDIR=/tmp",
	"WARDER_LAB=1",
	"WARDER_CACHE=" + CacheDir,
}

// A session is one command from its start to its exit.
type session struct {
	info  wire.StartInfo
	w     *wire.Writer
	stdin *input

	mu       sync.Mutex
	pid      int           // 0 until started and after its end
	early    []unix.Signal // came before it was started
	terminal *os.File      // the host's end of its pseudo-terminal, or nil
}

func newSession(info wire.StartInfo, w *wire.Writer) *session {
	return &session{info: info, w: w, stdin: newInput()}
}

// run runs the command and returns how it ended, after all its output was
// sent. Whatever it left running is killed.
func (s *session) run() wire.ExitInfo {
	if len(s.info.Args) == 0 {
		return wire.ExitInfo{Status: statusNotFound, Err: "no command"}
	}
	env := append(append([]string{}, defaultEnv...), s.info.Env...)
	path, err := lookPath(s.info.Args[0], env)
	if err != nil {
		return wire.ExitInfo{Status: statusNotFound, Err: err.Error()}
	}
	cmd := &exec.Cmd{
		Path:        path,
		Args:        s.info.Args,
		Env:         env,
		Dir:         s.info.Dir,
		Stdout:      s.w.Stream(wire.Stdout),
		Stderr:      s.w.Stream(wire.Stderr),
		WaitDelay:   strayDelay,
		SysProcAttr: &unix.SysProcAttr{Setpgid: true},
	}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	if s.info.TTY {
		return s.runOnTerminal(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return wire.ExitInfo{Status: statusNotExecutable, Err: err.Error()}
	}
	return s.wait(cmd, func() {
		s.feed(in)
		in.Close()
	})
}

// wait starts cmd, with feed passing its input on, and waits for its end.
func (s *session) wait(cmd *exec.Cmd, feed func()) wire.ExitInfo {
	exit := wire.ExitInfo{Start: monotonic()}
	if err := cmd.Start(); err != nil {
		exit.Status, exit.Err = statusNotExecutable, err.Error()
		return exit
	}
	s.started(cmd.Process.Pid)
	go feed()
	err := cmd.Wait()
	exit.End = monotonic()
	s.ended()
	s.stdin.end()
	killRest()
	exit.Status = status(cmd.ProcessState)
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed && !errors.Is(err, exec.ErrWaitDelay) {
		exit.Err = err.Error()
	}
	return exit
}

// killRest kills what a command left behind: nobody waits for it, and the
// next command must find the machine idle. No child of this process is
// awaited elsewhere at this time.
func killRest() {
	_ = unix.Kill(-1, unix.SIGKILL)
	for {
		_, err := unix.Wait4(-1, nil, 0, nil)
		if err != nil && err != unix.EINTR { // ECHILD
			return
		}
	}
}

func status(p *os.ProcessState) int {
	if w, ok := p.Sys().(unix.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return p.ExitCode()
}

// feed passes standard input on until its end, or until nobody reads it: then
// it only returns the credit.
func (s *session) feed(to io.Writer) {
	for p := s.stdin.next(); p != nil; p = s.stdin.next() {
		if to != nil {
			if _, err := to.Write(p); err != nil {
				to = nil
			}
		}
		if err := s.w.WriteJSON(wire.StdinCredit, wire.Count{N: len(p)}); err != nil {
			return
		}
	}
}

// signal sends sig to the command's process group, at once or when it has
// been started.
func (s *session) signal(sig unix.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		s.early = append(s.early[:0], sig) // the last one is enough
		return
	}
	s.send(sig)
}

// send sends sig. SIGKILL goes to every process of the machine but this one,
// so that nothing can escape it. The caller holds the lock.
func (s *session) send(sig unix.Signal) {
	to := -s.pid
	if sig == unix.SIGKILL {
		to = -1
	}
	_ = unix.Kill(to, sig) // a process that is gone already is as good
}

func (s *session) started(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = pid
	for _, sig := range s.early {
		s.send(sig)
	}
}

func (s *session) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = 0
}

func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var path string
	for _, e := range env { // the last one counts
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		file := dir + "/" + name
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: no such command in the outer machine (PATH=%s)", name, path)
}
