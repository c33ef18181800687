package hosting

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"warder/supervisor/services"
)

// Stats is what a service uses, at one moment. Counters begin with its VM.
type Stats struct {
	Name  string         `json:"name"`
	State services.State `json:"state"`
	Time  time.Time      `json:"time"`
	// Starts tells one VM of the service from the next.
	Starts int `json:"starts"`
	Use
}

// Use is what a VM has used: the host's own account, and the guest's word.
type Use struct {
	VCPUs   int           `json:"vcpus"`
	CPUTime time.Duration `json:"cpu_ns"` // of all vCPUs together
	// DeviceTime is the CPU time that warder took for its devices. It is measured where
	// there is a cpu_max.
	DeviceTime time.Duration `json:"cpu_devices_ns,omitempty"`
	// Throttled is how long the VM stood still since it had used what cpu_max gives.
	Throttled time.Duration `json:"cpu_throttled_ns"`
	// Granted is the memory that the guest has, Used how much of it takes memory of the
	// host, in bytes.
	Granted uint64 `json:"memory_granted"`
	Used    uint64 `json:"memory_used"`

	IO
	// Exits are the returns of vCPUs to the VMM, by KVM's reason.
	Exits map[string]uint64 `json:"exits"`

	// Guest is nil where the guest did not say in time.
	Guest *GuestUse `json:"guest,omitempty"`
}

// IO is what a guest has moved by its devices.
type IO struct {
	DiskRead     uint64 `json:"disk_read"` // bytes
	DiskWritten  uint64 `json:"disk_written"`
	DiskRequests uint64 `json:"disk_requests"`
	// Of shares the messages that the content is in count too, in bytes.
	ShareRead     uint64 `json:"share_read"`
	ShareWritten  uint64 `json:"share_written"`
	ShareRequests uint64 `json:"share_requests"`
	NetSent       uint64 `json:"net_sent"` // bytes, by the guest
	NetReceived   uint64 `json:"net_received"`
	NetFrames     uint64 `json:"net_frames"` // both ways
}

// Requests are those of all devices, a frame being one.
func (io IO) Requests() uint64 { return io.DiskRequests + io.ShareRequests + io.NetFrames }

// GuestUse is what a guest says of itself. It can lie.
type GuestUse struct {
	MemoryTotal     uint64     `json:"memory_total"`     // bytes
	MemoryAvailable uint64     `json:"memory_available"` // bytes, without swapping
	Load            [3]float64 `json:"load"`             // over 1, 5 and 15 minutes
	Processes       int        `json:"processes"`
	OOMKills        uint64     `json:"oom_kills"`
	// Pressure is nil where its kernel does not tell.
	Pressure *Pressure `json:"pressure,omitempty"`
}

// Pressure is the part of the last ten seconds in which some task waited for a
// resource, in percent (Documentation/accounting/psi.rst).
type Pressure struct {
	CPU    float64 `json:"cpu"`
	Memory float64 `json:"memory"`
	IO     float64 `json:"io"`
}

// guestWord is how long a guest may take to say how it fares.
const guestWord = 2 * time.Second

// Stats tells what services use that have a VM now, by name: all, or the one of a name
// that is not "".
func (h *Host) Stats(ctx context.Context, name string) ([]Stats, error) {
	type subject struct {
		status services.Status
		vm     VM
	}
	if name != "" {
		if err := h.Known(name); err != nil {
			return nil, err
		}
	}
	var subjects []subject
	h.mu.Lock()
	for n, s := range h.services {
		if s.vm == nil || s.vm.over() || name != "" && n != name {
			continue
		}
		if vm, err := s.vm.up(); err == nil {
			subjects = append(subjects, subject{s.status(), vm})
		}
	}
	h.mu.Unlock()
	list := make([]Stats, len(subjects))
	ctx, cancel := context.WithTimeout(ctx, guestWord)
	defer cancel()
	var all sync.WaitGroup
	for i, of := range subjects {
		all.Go(func() {
			use := of.vm.Use(ctx)
			list[i] = Stats{Name: of.status.Name, State: of.status.State, Time: time.Now(), Starts: of.status.Starts, Use: use}
		})
	}
	all.Wait()
	slices.SortFunc(list, func(a, b Stats) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}
