package board

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// A command is a program to run.
type command struct {
	path string
	args []string // the name first
	env  []string
}

const (
	// stopTime is what a command gets to stop its VMs.
	stopTime = time.Minute
	// A command that fails at once is not started more often than this.
	firstPause, longestPause = time.Second, time.Minute
	// steady is how long one has to run for its failure to count as the first.
	steady = 5 * time.Minute
)

// supervise runs c, with its output to out, until it ends by itself with status
// 0 or told gives an ending. say tells people what happens; after is time.After.
func supervise(c command, out io.Writer, told <-chan ending, say func(string, ...any), after func(time.Duration) <-chan time.Time) ending {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		began := time.Now()
		ended, stop, err := start(c, out)
		if err == nil {
			select {
			case err = <-ended:
			case e := <-told:
				stop()
				return e
			}
		}
		if err == nil {
			return powerOff
		}
		if time.Since(began) >= steady {
			pause = firstPause
		}
		say("%s: %v; once more in %v", c.args[0], err, pause)
		select {
		case <-after(pause):
		case e := <-told:
			return e
		}
	}
}

// start starts c. How it ended comes from the channel; stop ends it, by force
// when it takes longer than stopTime, and waits until it has.
func start(c command, out io.Writer) (ended <-chan error, stop func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer w.Close()
	cmd := &exec.Cmd{
		Path: c.path, Args: c.args, Env: c.env, Dir: "/", Stdout: w, Stderr: w,
		SysProcAttr: &unix.SysProcAttr{Setpgid: true},
	}
	if err := cmd.Start(); err != nil {
		r.Close()
		return nil, nil, err
	}
	pid := cmd.Process.Pid // a process that has been released has -1, which is everybody to kill
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		defer r.Close()
		io.Copy(out, r) // a log that cannot be written is no reason to stop
	}()
	end := make(chan error, 1)
	dead := make(chan struct{})
	go func() {
		status, err := reap(pid)
		unix.Kill(-pid, unix.SIGKILL) // what it left behind holds the pipe
		cmd.Process.Release()
		<-copied
		if err == nil && status != "" {
			err = errors.New(status)
		}
		end <- err
		close(dead)
	}()
	return end, func() {
		unix.Kill(pid, unix.SIGTERM)
		select {
		case <-dead:
		case <-time.After(stopTime):
			unix.Kill(-pid, unix.SIGKILL)
			<-dead
		}
	}, nil
}

// reap waits for a child, and for every orphan that ends meanwhile: PID 1
// inherits them. It describes an end other than a status of 0.
func reap(pid int) (string, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR) || err == nil && got != pid:
			continue
		case err != nil:
			return "", err
		case status.Signaled():
			return fmt.Sprintf("ended by %v", status.Signal()), nil
		case status.ExitStatus() != 0:
			return fmt.Sprintf("ended with status %d", status.ExitStatus()), nil
		}
		return "", nil
	}
}
