package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const asShell = "WARDER_TEST_AS_SHELL"

func TestMain(m *testing.M) {
	if os.Getenv(asShell) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func shell(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asShell+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestShell(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("echo script $1 $#; exit 5"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args   []string
		stdin  string
		status int
		stdout string
	}{
		"command":          {args: []string{"-c", "echo a; echo b | cat"}, stdout: "a\nb\n"},
		"exit status":      {args: []string{"-c", "exit 7"}, status: 7},
		"last status":      {args: []string{"-c", "false"}, status: 1},
		"parameters":       {args: []string{"-c", `echo "$0|$1|$2"`, "name", "a b", "-c"}, stdout: "name|a b|-c\n"},
		"options":          {args: []string{"-ec", "false; echo no"}, status: 1},
		"unset":            {args: []string{"-uc", "echo $none"}, status: 1},
		"standard input":   {stdin: "echo in; exit 3", status: 3, stdout: "in\n"},
		"script":           {args: []string{script, "x"}, status: 5, stdout: "script x 1\n"},
		"reads its input":  {args: []string{"-c", "read x; echo got $x"}, stdin: "line\n", stdout: "got line\n"},
		"redirection":      {args: []string{"-c", "echo lost > /dev/null; echo kept"}, stdout: "kept\n"},
		"descriptors":      {args: []string{"-c", "echo kept 2>&1 1>&2 >&- 0</dev/null; echo b 2>/dev/null"}, stdout: "b\n"},
		"no descriptor 7":  {args: []string{"-c", "echo a; true | read x 7</dev/null"}, status: 2},
		"no copy of 0":     {args: []string{"-c", "cat <&0"}, status: 2},
		"no read-write":    {args: []string{"-c", "cat <>/dev/null"}, status: 2},
		"not found":        {args: []string{"-c", "no-such-command-here"}, status: 127},
		"background, wait": {args: []string{"-c", "false & wait; echo done"}, stdout: "done\n"},
		"syntax":           {args: []string{"-c", "if"}, status: 2},
		"no script":        {args: []string{"/no/such/script"}, status: 127},
		"-c alone":         {args: []string{"-c"}, status: 2},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := shell(t, tt.stdin, tt.args...)
			if strings.Contains(stderr, "goroutine ") { // whose status is 2, too
				t.Errorf("it panicked: %s", stderr)
			}
			if status != tt.status || stdout != tt.stdout {
				t.Errorf("status %d, output %q; want %d, %q; stderr %q", status, stdout, tt.status, tt.stdout, stderr)
			}
		})
	}
}

func TestParseArgs(t *testing.T) {
	command := "x"
	got, err := parseArgs([]string{"-eu", "+x", "-c", "x", "name", "-e"})
	if err != nil {
		t.Fatal(err)
	}
	want := invocation{options: []string{"-e", "-u", "+x"}, command: &command, name: "name", params: []string{"-e"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(invocation{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
