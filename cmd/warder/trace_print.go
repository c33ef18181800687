package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/strace"
	"warder/secmon/trap"
	"warder/supervisor"
)

// detachTime is how long the end of a trace may take: what is left to print, and
// the kernel that has to show itself for its hooks to be taken off.
const detachTime = 5 * time.Second

// tracing is the trace of one command.
type tracing struct {
	flags    *traceFlags
	trace    *strace.Trace
	stop     context.CancelFunc
	printing sync.WaitGroup
}

// begin traces what the command will do that is about to be started in vm. Without
// flags there is nothing to do, and nothing to end.
func (t *traceFlags) begin(ctx context.Context, vm *supervisor.ServiceVM, command []string) (*tracing, error) {
	if t == nil {
		return nil, nil
	}
	k, err := introspect.Open(vm.Kernel())
	if err != nil {
		return nil, err
	}
	calls, err := strace.ParseSet(runtime.GOARCH, t.sets)
	if err != nil {
		return nil, err
	}
	cfg := strace.Config{Calls: calls, Command: command, Follow: t.follow}
	tr := &tracing{flags: t}
	if tr.trace, err = strace.Attach(ctx, vm.Name(), trap.Of(vm.Machine()), k, cfg, t.limit); err != nil {
		return nil, err
	}
	ctx, tr.stop = context.WithCancel(context.Background())
	tr.printing.Go(func() {
		for {
			e, err := tr.trace.Next(ctx)
			if err != nil {
				return
			}
			t.show(&e)
		}
	})
	return tr, nil
}

// end prints what is left, and how the command ended.
func (tr *tracing) end(status proto.Status) {
	if tr == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), detachTime)
	defer cancel()
	err := tr.trace.Detach(ctx)
	if e := tr.trace.Drained(ctx); err == nil {
		err = e
	}
	tr.stop()
	tr.printing.Wait()
	if sig := status.Signal; sig != 0 && tr.flags.output == "text" {
		fmt.Fprintf(tr.flags.out, "+++ killed by %s +++\n", unix.SignalName(unix.Signal(sig)))
	}
	if n := tr.trace.Unfollowed(); n > 0 {
		fmt.Fprintf(tr.flags.out, "warder: the results of %d calls are missing: too many were under way\n", n)
	}
	if err != nil {
		fmt.Fprintln(tr.flags.out, "warder: the trace may lack its end:", err)
	}
}

// show prints one call.
func (t *traceFlags) show(e *event.Event) {
	if t.output == "json" {
		if err := json.NewEncoder(t.out).Encode(e); err != nil {
			fmt.Fprintln(t.out, "warder:", err)
		}
		return
	}
	fmt.Fprintln(t.out, strace.Line(e, t.limit, t.follow))
	if s := strace.Ended(e, t.follow); s != "" {
		fmt.Fprintln(t.out, s)
	}
}

// print prints what another process says of a call: a line, or an event.
func (t *traceFlags) print(raw json.RawMessage) error {
	if t.output == "json" {
		_, err := fmt.Fprintf(t.out, "%s\n", raw)
		return err
	}
	var line string
	if err := json.Unmarshal(raw, &line); err != nil {
		return err
	}
	_, err := io.WriteString(t.out, line+"\n")
	return err
}
