package board

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary be what is supervised: it does what its first
// argument says.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[0] == "child" {
		os.Exit(child(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// child fails until it has been run as often as times says, or never ends.
func child(file, times string) int {
	if times == "ever" {
		fmt.Println("running")
		select {}
	}
	runs, _ := os.ReadFile(file)
	runs = append(runs, '.')
	if err := os.WriteFile(file, runs, 0o644); err != nil {
		return 2
	}
	fmt.Printf("run %d\n", len(runs))
	if fmt.Sprint(len(runs)) == times {
		return 0
	}
	return 3
}

func testCommand(t *testing.T, times string) command {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return command{path: self, args: []string{"child", filepath.Join(t.TempDir(), "runs"), times}}
}

// A signalled is a writer that tells of its first byte.
type signalled struct {
	once sync.Once
	c    chan struct{}
}

func (s *signalled) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.c) })
	return len(p), nil
}

func TestSuperviseStartsAgain(t *testing.T) {
	var out bytes.Buffer
	var said []string
	var pauses []time.Duration
	e := supervise(testCommand(t, "4"), &out, nil,
		func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) },
		func(d time.Duration) <-chan time.Time {
			pauses = append(pauses, d)
			c := make(chan time.Time, 1)
			c <- time.Time{}
			return c
		})
	if e != powerOff {
		t.Errorf("ending %v, want power off", e)
	}
	if want := "run 1\nrun 2\nrun 3\nrun 4\n"; out.String() != want {
		t.Errorf("output %q, want %q", &out, want)
	}
	if d := cmp.Diff([]time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, pauses); d != "" {
		t.Errorf("pauses:\n%s", d)
	}
	if len(said) != 3 || !strings.Contains(said[0], "ended with status 3; once more in 1s") {
		t.Errorf("said %q", said)
	}
}

func TestSuperviseIsTold(t *testing.T) {
	told := make(chan ending, 1)
	out := &signalled{c: make(chan struct{})}
	go func() {
		<-out.c // it runs
		told <- restart
	}()
	if e := supervise(testCommand(t, "ever"), out, told, t.Logf, time.After); e != restart {
		t.Errorf("ending %v, want restart", e)
	}
	// While it pauses, too.
	told <- powerOff
	never := func(time.Duration) <-chan time.Time { return nil }
	if e := supervise(command{path: "/nonexistent", args: []string{"x"}}, out, told, t.Logf, never); e != powerOff {
		t.Errorf("ending %v, want power off", e)
	}
}

func TestLogKeeps(t *testing.T) {
	var console bytes.Buffer
	path := filepath.Join(t.TempDir(), "log", "warder.log")
	l := newLog(&console, path)
	l.limit = 10
	for _, s := range []string{"12345", "67890", "abc", "defghij", "k"} {
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("write %q: %d, %v", s, n, err)
		}
	}
	for file, want := range map[string]string{path: "k", path + ".1": "abcdefghij"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", file, got, err, want)
		}
	}
	if console.String() != "1234567890abcdefghijk" {
		t.Errorf("console %q", &console)
	}
}

// image is the beginning of a file system with a label.
func image(kind, label string) []byte {
	b := make([]byte, 4096)
	switch kind {
	case "FAT32":
		copy(b[71:], fmt.Sprintf("%-11sFAT32   ", label))
	case "FAT16":
		copy(b[43:], fmt.Sprintf("%-11sFAT16   ", label))
	case "ext4":
		b[1024+0x38], b[1024+0x39] = 0x53, 0xef
		copy(b[1024+0x78:], label)
		return b
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}

func TestFindVolume(t *testing.T) {
	sys, dev := fstest.MapFS{}, fstest.MapFS{}
	for name, data := range map[string][]byte{
		"mmcblk0": image("", ""), "mmcblk0p1": image("FAT32", "WARDER"), "nvme0n1": image("ext4", "DATA"),
		"sda": image("FAT16", "OLD"), "ram0": nil,
	} {
		sys[name] = &fstest.MapFile{Mode: fs.ModeDir}
		dev[name] = &fstest.MapFile{Data: data}
	}
	sys["gone"] = &fstest.MapFile{Mode: fs.ModeDir}
	for label, want := range map[string]string{"WARDER": "mmcblk0p1 vfat", "DATA": "nvme0n1 ext4", "OLD": "sda vfat"} {
		device, kind, err := findVolume(sys, dev, label)
		if err != nil || device+" "+kind != want {
			t.Errorf("%s: %s %s, %v; want %s", label, device, kind, err, want)
		}
	}
	if device, _, err := findVolume(sys, dev, "NONE"); err == nil {
		t.Errorf("NONE is on %s", device)
	}
	if device, _, err := findVolume(sys, dev, ""); err == nil {
		t.Errorf("a volume without a name is on %s", device)
	}
}
