package tuned

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A target is what the kernel's build calls an architecture.
type target struct {
	goarch string
	name   string // ARCH
	cross  string // prefix of the compiler on a machine of another architecture
	image  string // what guests boot, in the directory of objects
}

var targets = map[string]target{
	"amd64": {"amd64", "x86_64", "x86_64-linux-gnu-", "arch/x86/boot/bzImage"},
	"arm64": {"arm64", "arm64", "aarch64-linux-gnu-", "arch/arm64/boot/Image"},
}

// prefix is that of the compiler's name here.
func (t target) prefix() string {
	if t.goarch == runtime.GOARCH {
		return ""
	}
	return t.cross
}

// tools are the programs that the kernel's build runs, beside the compiler.
var tools = []string{"make", "flex", "bison", "bc", "pahole", "tar", "xz", "zstd"}

// checkTools says what is missing at once, before anything is fetched.
func (t target) checkTools() error {
	var missing []string
	for _, name := range append(slices.Clone(tools), t.prefix()+"gcc", t.prefix()+"ld") {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("a kernel cannot be built here without %s: \"make kernel\" in warder's source installs what is missing",
			strings.Join(missing, ", "))
	}
	return nil
}

// make runs make in the source tree, without what a make above this process
// wants passed on. Its lines go to report, unless that is nil. An error ends with
// the last of them.
func (b build) make(ctx context.Context, report func(line string), args ...string) error {
	cmd := exec.CommandContext(ctx, "make", append([]string{
		"-C", b.source, "O=" + b.objects, "ARCH=" + b.target.name, "CROSS_COMPILE=" + b.target.prefix(),
		// The banner and the archives in the kernel have these in them.
		"KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970", "KBUILD_BUILD_VERSION=1",
		"KBUILD_BUILD_USER=warder", "KBUILD_BUILD_HOST=warder",
	}, args...)...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains([]string{"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARCH", "CROSS_COMPILE"}, name) ||
			strings.HasPrefix(name, "KCONFIG_") || strings.HasPrefix(name, "KBUILD_")
	}), "LC_ALL=C")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its compilers
	cmd.WaitDelay = 10 * time.Second
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if report != nil {
			report(lines.Text())
		}
	}
	// A line beyond all measure ends the scan, and must not block make.
	_, drained := io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w; it said\n%s", err, tail(complaints.String()))
	}
	return errors.Join(lines.Err(), drained)
}

// tail is the end of what make said: the first errors of parallel compilers are
// followed by few more lines.
func tail(text string) string {
	const most = 30
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(len(lines)-most, 0):], "\n")
}
