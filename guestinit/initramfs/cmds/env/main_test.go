package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

const asEnv = "WARDER_TEST_AS_ENV"

func TestMain(m *testing.M) {
	if os.Getenv(asEnv) != "" {
		os.Unsetenv(asEnv)
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestEnv(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"prints":         {nil, 0, "A=1\nPATH=" + os.Getenv("PATH") + "\n"},
		"adds":           {[]string{"B=2=3"}, 0, "A=1\nPATH=" + os.Getenv("PATH") + "\nB=2=3\n"},
		"clears":         {[]string{"-i", "B=2"}, 0, "B=2\n"},
		"runs":           {[]string{"A=9", "sh", "-c", "echo $A; exit 4"}, 4, "9\n"},
		"not found":      {[]string{"no-such-command-here"}, 127, ""},
		"no such file":   {[]string{"/no/such/file"}, 127, ""},
		"not executable": {[]string{"/"}, 126, ""},
	} {
		var out bytes.Buffer
		cmd := exec.Command(self, tt.args...)
		cmd.Env = []string{asEnv + "=1", "A=1", "PATH=" + os.Getenv("PATH")}
		cmd.Stdout = &out
		cmd.Run()
		if status := cmd.ProcessState.ExitCode(); status != tt.status || out.String() != tt.want {
			t.Errorf("%s: status %d, output %q; want %d, %q", name, status, out.String(), tt.status, tt.want)
		}
	}
}
