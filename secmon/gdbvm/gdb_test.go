package gdbvm_test

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"warder/internal/oracle"
	"warder/internal/testkernel"
	"warder/internal/testkvm"
	"warder/secmon/gdbstub"
	"warder/secmon/gdbvm"
	"warder/vmm"
)

// TestGDBUnderstands has Debian's GDB debug the small guest: it has to know the
// architecture, take the description of the registers without complaint, step,
// and end the guest by a register that it sets.
func TestGDBUnderstands(t *testing.T) {
	testkvm.OnHost(t, "GDB is there")
	gdb := oracle.Command(t, "gdb-multiarch", "gdb-multiarch")
	m := smallMachine(t)
	l, err := gdbstub.Listen("0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	served := make(chan struct{})
	go func() {
		defer close(served)
		gdbstub.ServeAll(ctx, l, gdbvm.Of(m, gdbvm.Config{}).Attach, slog.New(slog.DiscardHandler))
	}()
	out, err := exec.CommandContext(ctx, gdb, "-nx", "-batch",
		"-ex", "set remotetimeout 60", "-ex", "target remote "+l.Addr().String(),
		"-ex", "info threads", "-ex", "info all-registers", "-ex", "info registers system",
		"-ex", "stepi", "-ex", fmt.Sprintf("x/2i %#x", uint64(testkernel.RawBase)),
		"-ex", fmt.Sprintf("x/4xb %#x", uint64(testkernel.RawBase)),
		"-ex", "set var $"+loopName+" = 0", "-ex", "continue").CombinedOutput()
	if err != nil {
		t.Errorf("gdb: %v", err)
	}
	for _, want := range append([]string{
		"vCPU 0", "exited normally", fmt.Sprintf("0x%02x\t0x%02x\t0x%02x\t0x%02x", small[0], small[1], small[2], small[3]),
	}, gdbShows...) {
		if !strings.Contains(string(out), want) {
			t.Errorf("gdb does not say %q", want)
		}
	}
	// There is no executable, which GDB is told.
	rest := strings.ReplaceAll(string(out), "warning: No executable has been specified", "")
	for _, complaint := range []string{"warning:", "rror", "unavailable"} {
		if strings.Contains(rest, complaint) {
			t.Errorf("gdb complains: %q", complaint)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	cancel()
	<-served
	if e := m.Wait(); e.Reason != vmm.PowerOff {
		t.Errorf("ended by %v", e)
	}
}
