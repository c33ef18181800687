package initramfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// SupervisorName is the name of the file with an architecture's decision module, in
// the directory images.
func SupervisorName(arch string) string { return arch + ".supervisor.zst" }

// SumsName is that of the file with the digests of what is in a supervisor's VM.
func SumsName(arch string) string { return arch + ".supervisor.sums" }

// Sums are the digests of PID 1 and of the decision module, a line each.
func Sums(pid1, program []byte) string {
	var b strings.Builder
	for _, f := range []struct {
		name string
		data []byte
	}{{"init", pid1}, {"supervisor", program}} {
		sum := sha256.Sum256(f.data)
		b.WriteString(hex.EncodeToString(sum[:]) + "  " + f.name + "\n")
	}
	return b.String()
}

// Supervisor gives PID 1 and the decision module, which are all the user land that a
// supervisor's VM has. They are read anew out of this program, and are what was built
// into it, or there is an error.
func Supervisor() (pid1, program []byte, err error) {
	sums, err := images.ReadFile("images/" + SumsName(runtime.GOARCH))
	if err != nil {
		return nil, nil, fmt.Errorf("this warder was built without the supervisor's image for %s: run make build", runtime.GOARCH)
	}
	base, err := load(FileName(runtime.GOARCH))
	if err == nil {
		pid1, err = InitOf(base)
	}
	if err == nil {
		program, err = load(SupervisorName(runtime.GOARCH))
	}
	if err != nil {
		return nil, nil, err
	}
	if Sums(pid1, program) != string(sums) {
		return nil, nil, errors.New("the supervisor's image in this process is not the one that was built: it is damaged or has been changed")
	}
	return pid1, program, nil
}
