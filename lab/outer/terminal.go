package outer

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"

	"warder/lab/wire"
)

// runOnTerminal runs cmd as the leader of a session on a new pseudo-terminal.
func (s *session) runOnTerminal(cmd *exec.Cmd) wire.ExitInfo {
	host, command, err := openTerminal()
	if err != nil {
		return wire.ExitInfo{Status: statusNotExecutable, Err: err.Error()}
	}
	defer host.Close()
	s.mu.Lock()
	s.terminal = host
	s.mu.Unlock()
	s.resize(s.info.Size)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = command, command, command
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 32<<10)
		for {
			n, err := host.Read(buf)
			if n > 0 && s.w.Write(wire.Stdout, buf[:n]) != nil {
				return
			}
			if err != nil { // EIO: the last process closed its end
				return
			}
		}
	}()
	exit := s.wait(cmd, func() { s.feed(host) })
	command.Close()
	<-done
	s.mu.Lock()
	s.terminal = nil
	s.mu.Unlock()
	return exit
}

// openTerminal opens a pseudo-terminal and returns both ends.
func openTerminal() (host, command *os.File, err error) {
	host, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			host.Close()
		}
	}()
	raw, err := host.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var number int
	var failed error
	err = raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, nil, fmt.Errorf("pseudo-terminal: %w", err)
	}
	command, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	return host, command, err
}

// resize sets the size of the session's terminal, if it has one.
func (s *session) resize(size wire.Size) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal == nil {
		return
	}
	raw, err := s.terminal.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
	})
}
