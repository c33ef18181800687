package process

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
)

const asPID1 = "WARDER_TEST_AS_PID1"

func TestMain(m *testing.M) {
	if os.Getenv(asPID1) != "" {
		if err := pid1(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestPID1 runs the package where it belongs: as the first process of a PID
// namespace, which gets the orphans and must stop everybody.
func TestPID1(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), asPID1+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func pid1() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("process %d, not 1", os.Getpid())
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	table := NewTable(ctx, "")

	// The shell is gone before its grandchildren, which come to us.
	c, err := run(table, 1, "for i in 1 2 3 4 5; do (sleep 0.$i &); done; exit 6")
	if err != nil {
		return err
	}
	if s := <-c.status; s.Code != 6 {
		return fmt.Errorf("the shell ended by %+v", s)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		if len(left) == 1 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not all orphans were reaped: %s", left)
		}
	}

	obeys, err := run(table, 2, `trap "exit 3" TERM; echo ready; while :; do sleep 0.02; done`)
	if err != nil {
		return err
	}
	ignores, err := run(table, 3, `trap "" TERM; echo ready; while :; do sleep 0.02; done`)
	if err != nil {
		return err
	}
	for _, c := range []*running{obeys, ignores} {
		if line, err := c.out.ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
			return fmt.Errorf("%q, %w", line, err)
		}
	}
	grace, cancelGrace := context.WithTimeout(ctx, time.Second)
	defer cancelGrace()
	table.StopAll(grace)
	if s := <-obeys.status; s.Code != 3 {
		return fmt.Errorf("the one that obeys SIGTERM ended by %+v", s)
	}
	if s := <-ignores.status; s.Signal != int(syscall.SIGKILL) {
		return fmt.Errorf("the one that ignores SIGTERM ended by %+v", s)
	}
	return nil
}

type running struct {
	out    *bufio.Reader
	status chan proto.Status
}

// run starts a shell script whose output can be read.
func run(table *Table, id uint64, script string) (*running, error) {
	ours, theirs := net.Pipe()
	r := &running{bufio.NewReader(ours), make(chan proto.Status, 1)}
	_, err := table.Start(context.Background(),
		proto.Start{ID: id, Streams: []proto.Role{proto.Stdout}, Command: proto.Command{Args: []string{"sh", "-c", script}, Dir: "/"}},
		func(context.Context, proto.Role) (net.Conn, error) { return theirs, nil },
		func(s proto.Status) { r.status <- s })
	return r, err
}
