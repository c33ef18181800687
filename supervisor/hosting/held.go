package hosting

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/link"
)

const (
	// leftoverGrace is how long processes get that nobody stopped in good order.
	leftoverGrace = time.Second
	// killAfter is how long a guest may take to switch off then.
	killAfter = 30 * time.Second
	// maxPatience bounds what a supervisor may say of that.
	maxPatience = 31 * 24 * time.Hour
)

// held is the VM of one start of a service, from the order to boot it on. What
// became of it stays known until the service is over or has another: a supervisor
// that comes later asks again.
type held struct {
	host  *Host
	decl  declaration.Service
	log   *tape[Line]
	start int

	living context.Context // until it is to be destroyed
	die    context.CancelFunc

	booted    *once[VM]
	ran       *once[Process]
	ties      *ties // of its command
	exited    *once[proto.Status]
	destroyed *once[struct{}]
	checking  sync.Mutex
}

func (h *Host) newHeld(s *service, start int) *held {
	v := &held{
		host: h, decl: s.decl, log: s.log, start: start,
		booted: newOnce[VM](), ran: newOnce[Process](), ties: newTies(), exited: newOnce[proto.Status](), destroyed: newOnce[struct{}](),
	}
	v.living, v.die = context.WithCancel(context.Background())
	return v
}

// boot brings it up, within what the host gives to services at the most.
func (v *held) boot(ctx context.Context) (VM, error) {
	return v.booted.do(ctx, func() (VM, error) {
		if v.living.Err() != nil {
			return nil, errNoVM(v.decl.Name)
		}
		claim, err := v.host.machines.Claim(v.decl)
		if err != nil {
			return nil, err
		}
		if err := v.host.most.Grant(v.decl.Name, claim); err != nil {
			return nil, err
		}
		vm, err := v.host.machines.Boot(v.living, v.decl)
		if err != nil {
			v.host.most.Return(v.decl.Name)
			return nil, err
		}
		return vm, nil
	})
}

// up gives the VM if it has come up.
func (v *held) up() (VM, error) {
	if !v.booted.over() || v.booted.err != nil {
		return nil, errNoVM(v.decl.Name)
	}
	return v.booted.v, nil
}

// run starts the service's own command, whose output goes into its log.
func (v *held) run(ctx context.Context) error {
	vm, err := v.up()
	if err != nil {
		return err
	}
	if !v.decl.Runs() {
		return fmt.Errorf("%s has no command", v.decl.Name)
	}
	_, err = v.ran.do(ctx, func() (Process, error) {
		stdio, flush := v.ties.stdio(v.decl, v.log)
		p, err := vm.Start(v.living, Command(v.decl), stdio)
		if err != nil {
			return nil, err
		}
		v.ties.process = p
		v.exited.start(func() (proto.Status, error) {
			// Until the VM is gone at the latest; told to stop, it is stopped in good order.
			status, err := p.Wait(context.Background())
			flush()
			v.ties.end(status, err)
			return status, err
		})
		return p, nil
	})
	return err
}

// check runs the service's health check.
func (v *held) check(ctx context.Context) (link.Checked, error) {
	vm, err := v.up()
	switch {
	case err != nil:
		return link.Checked{}, err
	case v.decl.Health == nil:
		return link.Checked{}, fmt.Errorf("%s has no health check", v.decl.Name)
	case !v.checking.TryLock():
		return link.Checked{}, errors.New("the health check runs already")
	}
	defer v.checking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(v.decl.Health.Timeout))
	defer cancel()
	cmd := Command(v.decl)
	cmd.Args, cmd.TTY = v.decl.Health.Command, false
	said := &beginning{}
	p, err := vm.Start(ctx, cmd, control.Stdio{Out: said, Err: said})
	if err != nil {
		return link.Checked{}, err
	}
	status, err := p.Wait(ctx)
	return link.Checked{Status: status, Said: said.String()}, err
}

// end waits for the end of the VM, and says what became of it.
func (v *held) end(ctx context.Context) error {
	vm, err := v.up()
	if err != nil {
		return err
	}
	select {
	case <-vm.Done():
		return vm.Ended()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// destroy ends the VM, which gets grace, and is killed after patience. One that has
// not come up never does.
func (v *held) destroy(ctx context.Context, grace, patience time.Duration) error {
	_, err := v.destroyed.do(ctx, func() (struct{}, error) {
		if !v.booted.over() {
			v.die()
		}
		vm, err := v.boot(context.Background())
		defer v.die()
		if err != nil {
			return struct{}{}, nil
		}
		soon, cancel := context.WithTimeout(context.Background(), min(max(0, patience), maxPatience))
		defer cancel()
		err = vm.Stop(soon, min(max(0, grace), maxPatience))
		v.host.most.Return(v.decl.Name)
		return struct{}{}, err
	})
	return err
}

// over tells whether nothing is left of it but what became of it.
func (v *held) over() bool {
	return v.destroyed.over() || v.booted.over() && v.booted.err != nil
}

// Command is what a service runs in its VM. What it leaves open says its image, which
// the VM knows.
func Command(d declaration.Service) proto.Command {
	c := proto.Command{Args: d.Command, Dir: d.Workdir, User: d.User}
	if d.TTY {
		c.TTY, c.Cols, c.Rows = true, 80, 24 // until somebody is attached who says
	}
	for _, name := range slices.Sorted(maps.Keys(d.Env)) {
		c.Env = append(c.Env, name+"="+d.Env[name])
	}
	return c
}

// beginning keeps the beginning of what a check says.
type beginning struct {
	mu  sync.Mutex
	buf []byte
}

// Write never fails.
func (b *beginning) Write(p []byte) (int, error) {
	const most = 200
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p[:min(len(p), most-len(b.buf))]...)
	return len(p), nil
}

func (b *beginning) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.TrimSpace(proto.Printable(string(b.buf)))
}
