package builder

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// SupervisorSources are the directories that the decision module is made of, beside
// guestinit.
var SupervisorSources = []string{"supervisor/declaration", "supervisor/decision", "supervisor/link", "supervisor/program", "supervisor/services", "supervisor/verify"}

// BuildSupervisor writes the decision module for arch, a GOARCH name: the program
// that a supervisor's VM runs. It is to be called inside this module.
func BuildSupervisor(w io.Writer, arch string) error {
	tmp, err := os.MkdirTemp("", "warder-supervisor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, "supervisor")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", file, "warder/supervisor/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the decision module for %s: %w", arch, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
