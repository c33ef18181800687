package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"warder/lab/bench/initrd"
)

// A machine is a VMM that runs a guest.
type machine struct {
	cmd     *exec.Cmd
	out     *bufio.Reader
	stderr  bytes.Buffer
	cancel  context.CancelFunc
	show    bool
	console io.ReadWriter // the guest's second console
	others  []string      // KVM's statistics of VMs that were there before
	from    moment        // before the process was made
	to      moment        // when its guest wrote initrd.Mark
}

// start starts a VMM with its guest's serial port on standard output. With
// console that is the guest's second console, with standard input, and the
// serial port is on standard error.
func (b *bench) start(ctx context.Context, args []string, console bool) (_ *machine, err error) {
	m := &machine{show: b.verbose}
	ctx, m.cancel = context.WithTimeout(ctx, b.patience)
	m.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	if err := m.connect(console); err != nil {
		return nil, err
	}
	if m.others, err = kvmStats(); err != nil {
		return nil, err
	}
	if err := settle(); err != nil {
		return nil, err
	}
	if m.from, err = now(); err != nil {
		return nil, err
	}
	return m, m.cmd.Start()
}

// connect makes the pipes to a VMM.
func (m *machine) connect(console bool) error {
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if !console {
		m.out, m.cmd.Stderr = bufio.NewReader(out), &m.stderr
		return nil
	}
	in, err := m.cmd.StdinPipe()
	if err != nil {
		return err
	}
	m.console = struct {
		io.Reader
		io.Writer
	}{out, in}
	serial, err := m.cmd.StderrPipe()
	m.out = bufio.NewReader(serial)
	return err
}

// awaitMark waits for a guest's first instruction.
func (m *machine) awaitMark() error {
	_, err := m.readTo(initrd.Mark)
	return err
}

// readTo reads what the guest writes up to a byte, which it leaves out.
func (m *machine) readTo(end byte) (string, error) {
	said, err := m.out.ReadString(end)
	if m.show {
		os.Stdout.WriteString(said)
	}
	if err != nil {
		m.end()
		return said, fmt.Errorf("the guest did not come up (%w); it said %q, its VMM %q", err, last([]byte(said)), last(m.stderr.Bytes()))
	}
	m.to, err = now()
	return said[:len(said)-1], err
}

func last(b []byte) []byte { return b[max(0, len(b)-1000):] }

// await waits for a VMM whose guest has switched off, and gives what it said.
func (m *machine) await() (string, error) {
	defer m.cancel()
	// Nothing more comes from the guest but a line's end.
	if _, err := io.Copy(io.Discard, m.out); err != nil {
		return "", err
	}
	err := m.cmd.Wait()
	return m.stderr.String(), err
}

// end kills the VMM.
func (m *machine) end() {
	m.cancel()
	m.cmd.Wait()
}

// A moment is a point in the machine's time.
type moment struct {
	clock time.Duration // CLOCK_MONOTONIC_RAW
	idle  time.Duration // of the machine's one CPU, up to now
}

func now() (moment, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		return moment{}, fmt.Errorf("clock: %w", err)
	}
	idle, err := idleTime()
	return moment{time.Duration(ts.Nano()), idle}, err
}

// idleTime is how long the CPU has been idle. /proc/uptime has it in
// hundredths of a second.
func idleTime() (time.Duration, error) {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	var up, idle float64
	if _, err := fmt.Sscan(string(b), &up, &idle); err != nil {
		return 0, errors.Join(errors.New("/proc/uptime"), err)
	}
	return time.Duration(idle * float64(time.Second)), nil
}

// awaitFile waits until a program that has not ended has made a file.
func awaitFile(name string, ended <-chan struct{}) error {
	for {
		if _, err := os.Stat(name); err == nil {
			return nil
		}
		select {
		case <-ended:
			return errServerEnded
		case <-time.After(time.Millisecond):
		}
	}
}
