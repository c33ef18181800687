package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warder/internal/oracle"
)

// bootable returns the configuration of a real outer machine, or skips the test
// where this machine has no emulator or kernel. With CI set it must have.
func bootable(t *testing.T, arch string) Config {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	dir := t.TempDir()
	cfg := Config{Arch: arch, Init: filepath.Join(dir, "init")}
	probe := filepath.Join(dir, "probe")
	for path, pkg := range map[string]string{cfg.Init: "./outer/init", probe: "./testdata/probe"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
		cmd.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	cfg.Files = []File{{Host: probe, Guest: "/bin/probe"}}
	cfg, err := Prepare(t.Context(), cfg)
	if err != nil {
		oracle.Missing(t, "an emulator and a kernel, which make deps gets: "+err.Error())
	}
	return cfg
}

// patience is more than any of the commands here takes.
const patience = 3 * time.Minute

func TestARealMachine(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			cfg := bootable(t, arch)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			m, err := Start(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()

			var out, diag bytes.Buffer
			results := t.TempDir()
			in := bytes.Repeat([]byte("0123456789"), 100_000)
			exit, err := m.Run(ctx, Command{
				Args: []string{"probe", "a b"}, Env: []string{"X=y z"}, Dir: "/root",
				Stdin: bytes.NewReader(in), Stdout: &out, Stderr: &diag, Results: "/results", ResultsTo: results,
			})
			if err != nil {
				t.Fatalf("%v (stderr %q)", err, &diag)
			}
			if exit.Status != 7 {
				t.Errorf("status %d, want 7", exit.Status)
			}
			if want := "in=1000000 env=y z lab=1 dir=/root vm=true arg=a b\n"; out.String() != want {
				t.Errorf("stdout %q, want %q", &out, want)
			}
			if diag.String() != "diagnostics" {
				t.Errorf("stderr %q", &diag)
			}
			if got, err := os.ReadFile(filepath.Join(results, "sub/input")); err != nil || !bytes.Equal(got, in) {
				t.Errorf("the result is not what was written: %d bytes, %v", len(got), err)
			}

			exit, err = m.Run(ctx, Command{Args: []string{"absent"}})
			if err == nil || exit.Status != 127 || !strings.Contains(err.Error(), "no such command") {
				t.Errorf("an absent command: %v, %v", exit, err)
			}

			out.Reset()
			exit, err = m.Run(ctx, Command{
				Args: []string{"probe", "tty"}, Terminal: &Terminal{Columns: 90, Rows: 30}, Stdin: strings.NewReader("typed\n\x04"), Stdout: &out,
			})
			if err != nil || exit.Status != 7 || !strings.Contains(out.String(), "in=6") || !strings.Contains(out.String(), "diagnostics") {
				t.Errorf("on a terminal: %v, %v, output %q", exit, err, &out)
			}
		})
	}
}

// The machine's end must be seen while a command runs.
func TestARealMachineThatDies(t *testing.T) {
	cfg := bootable(t, "arm64")
	m, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	began := time.Now()
	_, err = m.Run(t.Context(), Command{Args: []string{"/init", "lab-outer"}}) // powers the machine off: it is not PID 1
	if _, ok := errors.AsType[*MachineError](err); !ok {
		t.Errorf("got %v, want a MachineError", err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("seen only after %v", d)
	}
}

// The same work must take the same number of instructions, or they cannot be
// compared.
func TestInstructionsAreCounted(t *testing.T) {
	cfg := bootable(t, "arm64")
	cfg.ICount = true
	var times []time.Duration
	for range 2 {
		exit, err := Run(t.Context(), cfg, Command{Args: []string{"probe", "work"}})
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, exit.Time)
	}
	low, high := min(times[0], times[1]), max(times[0], times[1])
	if low < 10*time.Millisecond || high > time.Second || float64(high-low) > 0.2*float64(low) {
		t.Errorf("the same command took %v", times)
	}
}
