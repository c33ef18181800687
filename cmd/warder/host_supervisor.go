package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"warder/secmon/event"
	"warder/secmon/watch"
	"warder/supervisor"
	"warder/supervisor/api"
	"warder/supervisor/declaration"
	"warder/supervisor/mirror"
)

// supervisorConfig is what the host's supervisor is given.
type supervisorConfig struct {
	// Memory is what its VM has.
	Memory string `yaml:"memory"`
	// Keep is a directory for the memory of supervisors that were lost.
	Keep string `yaml:"keep"`

	memory declaration.Size
}

// leastSupervisor is what its guest needs to come up, in bytes.
const leastSupervisor = 64 << 20

// check makes paths absolute and says what is wrong.
func (s *supervisorConfig) check(base string) (err error) {
	if s.Memory != "" {
		if err := s.memory.Set(s.Memory); err != nil || s.memory < leastSupervisor {
			return &declaration.Problem{Path: "supervisor.memory", Text: fmt.Sprintf("%q: give 64M or more, as in 96M", s.Memory)}
		}
	}
	if s.Keep != "" {
		s.Keep, err = absolute(base, s.Keep)
	}
	return err
}

func (s *supervisorConfig) bytes() uint64 {
	if s.memory == 0 {
		return mirror.DefaultMemory
	}
	return uint64(s.memory)
}

// startSupervisor makes the host's supervisor, and has it kept from then on.
func (h *host) startSupervisor(ctx context.Context, cfg supervisorConfig) error {
	seen := &supervisorWatch{host: h}
	vms := &mirror.VMs{
		Kernel: h.kernel, Memory: cfg.bytes(), CPUWeight: h.weight, BootTimeout: bootTime, Keep: cfg.Keep, Log: h.log,
		Began: seen.began, Ending: seen.ending,
		Refused:   func(why string) { h.tellSupervisor(mirror.Event{Action: "supervisor-refused", Text: why}) },
		Unchecked: func(why string) { h.tellSupervisor(mirror.Event{Action: "supervisor-unchecked", Text: why}) },
	}
	k, err := mirror.Start(ctx, h.services, vms, h.tellSupervisor, h.log)
	if err != nil {
		return fmt.Errorf("there is no supervisor, and no host without one: %w", err)
	}
	h.supervisor = k
	if h.socket.server != nil {
		h.socket.server.Supervise(k)
	}
	return nil
}

// tellSupervisor makes an event of what happened to the supervisor.
func (h *host) tellSupervisor(e mirror.Event) {
	h.watch.Events.Put(event.Event{Time: time.Now().UnixNano(), Kind: event.Lifecycle, VM: mirror.Name, Action: e.Action, Message: e.Text})
}

// dialled reports a VM that has dialled the host's port for supervisors, where nobody
// is behind it.
func (h *host) dialled(vm string, tries uint64) {
	h.watch.Report(event.Event{
		Time: time.Now().UnixNano(), Kind: event.Anomaly, VM: vm, Action: "supervisor-port",
		Message: fmt.Sprintf("it dialled the host's port for supervisors and was refused, %s since it was last said", times(int(min(tries, 1<<30)))),
	})
}

// mirror is the response of rules that saw the supervisor attacked.
func (h *host) mirror(vm string) (string, error) {
	if vm != mirror.Name || h.supervisor == nil {
		return "", errors.New("it is no supervisor that could be replaced")
	}
	st, err := h.supervisor.Mirror(context.Background(), "a rule saw it attacked")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("another one answers after %v", st.Took.Round(time.Millisecond)), nil
}

// supervisorWatch has the supervisor's VM seen by all who see VMs, one at a time.
type supervisorWatch struct {
	host     *host
	cancel   context.CancelFunc
	watching sync.WaitGroup
}

func (s *supervisorWatch) began(vm *supervisor.ServiceVM) {
	h := s.host
	h.mu.Lock()
	h.running[mirror.Name] = vm
	h.mu.Unlock()
	h.socket.add(api.Service(vm))
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.watching.Go(func() {
		err := h.watch.Attach(ctx, watch.Target{Name: mirror.Name, Machine: vm.Machine(), Kernel: vm.Kernel()})
		if err != nil && ctx.Err() == nil {
			h.log.Warn("the supervisor is not watched", "because", err)
		}
	})
}

func (s *supervisorWatch) ending(*supervisor.ServiceVM) {
	h := s.host
	s.cancel()
	h.socket.remove(mirror.Name)
	s.watching.Wait()
	h.watch.Forget(mirror.Name)
	h.mu.Lock()
	delete(h.running, mirror.Name)
	h.mu.Unlock()
}
