// Package declaration reads what services are declared to be.
//
// A declaration is data, and this package knows no machine: what decides about
// a service runs where there is none.
package declaration

import (
	"cmp"
	"strings"
	"time"
)

// A Service is what one service is, in the words of the file that declares it.
type Service struct {
	Name string `yaml:"name" json:"name"`
	// Image is what its root file system is made of, see ParseImage; "" for warder's
	// own user land.
	Image string `yaml:"image" json:"image,omitempty"`
	// Overlay is a disk that keeps what is written to the image, "" for the VM's memory.
	Overlay string            `yaml:"overlay" json:"overlay,omitempty"`
	Command []string          `yaml:"command" json:"command,omitempty"`
	Env     map[string]string `yaml:"env" json:"env,omitempty"`
	Workdir string            `yaml:"workdir" json:"workdir,omitempty"` // in the guest
	User    string            `yaml:"user" json:"user,omitempty"`       // NAME[:GROUP] or numbers
	// TTY gives the command a terminal, Stdin an input without one: both are for who is
	// attached to it.
	TTY   bool `yaml:"tty" json:"tty,omitempty"`
	Stdin bool `yaml:"stdin" json:"stdin,omitempty"`

	CPUs int `yaml:"cpus" json:"cpus,omitempty"` // 1 when 0
	// CPUsMin is how many of them are on line at least; 0 for all.
	CPUsMin   int     `yaml:"cpus_min" json:"cpus_min,omitempty"`
	CPUWeight int     `yaml:"cpu_weight" json:"cpu_weight,omitempty"`
	CPUMax    float64 `yaml:"cpu_max" json:"cpu_max,omitempty"` // CPUs; 0 for no bound
	Memory    Memory  `yaml:"memory" json:"memory,omitzero"`
	// Priority says who gets first what there is not enough of: the greater.
	Priority int    `yaml:"priority" json:"priority,omitempty"`
	Watchdog string `yaml:"watchdog" json:"watchdog,omitempty"` // log, pause, reset, kill

	Attachments `yaml:",inline"`
	// Secrets are the names of those that it gets when it asks. What they are says the
	// host.
	Secrets []string `yaml:"secrets" json:"secrets,omitempty"`

	// LAN is its place on the LAN, nil for none.
	LAN *LAN `yaml:"lan" json:"lan,omitempty"`

	// OnDemand has connections start it, if it is not nil.
	OnDemand *OnDemand `yaml:"on_demand" json:"on_demand,omitempty"`

	Health  *Health `yaml:"health" json:"health,omitempty"`
	Restart Restart `yaml:"restart" json:"restart,omitzero"`
	// StopTimeout is how long the service may take to end when it is told to,
	// before it is killed; 0 for DefaultStopTimeout.
	StopTimeout Duration `yaml:"stop_timeout" json:"stop_timeout,omitempty"`
}

// Attachments are what a VM is connected to, each in the words of a flag of
// warder run.
type Attachments struct {
	Disks  []string `yaml:"disks" json:"disks,omitempty"`
	Shares []string `yaml:"shares" json:"shares,omitempty"`
	Nets   []string `yaml:"nets" json:"nets,omitempty"`
	Pmems  []string `yaml:"pmems" json:"pmems,omitempty"`
	Ports  []string `yaml:"ports" json:"ports,omitempty"`
}

// Health is how one finds out whether a service is well: by a command in its VM
// that ends with status 0.
type Health struct {
	Command []string `yaml:"command" json:"command"`
	// Interval is the time from one check's end to the next one's start, Timeout
	// what one may take. The zero values are for the defaults below.
	Interval Duration `yaml:"interval" json:"interval,omitempty"`
	Timeout  Duration `yaml:"timeout" json:"timeout,omitempty"`
	// Retries is how many failures in a row make a service a failed one.
	Retries int `yaml:"retries" json:"retries,omitempty"`
	// StartPeriod is how long after the start of the command failures do not count.
	StartPeriod Duration `yaml:"start_period" json:"start_period,omitempty"`
}

// OnDemand is how connections start a service: those to the ports that it publishes on
// the LAN, of others on the LAN, and to Sockets.
type OnDemand struct {
	// Idle is how long a service that a connection has started stays without any; 0 for
	// as long as it likes.
	Idle Duration `yaml:"idle" json:"idle,omitempty"`
	// Wait is how long a connection waits for the service to run; 0 for DefaultWait.
	Wait Duration `yaml:"wait" json:"wait,omitempty"`
	// Sockets are Unix sockets of the host's, each with the port of the guest's vsock that
	// it leads to, as PATH:PORT.
	Sockets []string `yaml:"sockets" json:"sockets,omitempty"`
}

// When a service is started again by itself.
const (
	RestartNever     = "never"
	RestartOnFailure = "on-failure"
	RestartAlways    = "always"
)

// Restart says whether a service that ended is started again.
type Restart struct {
	Policy string `yaml:"policy" json:"policy,omitempty"` // "" is RestartNever
	// Delay is the pause before the first new start, which doubles with each
	// further one up to MaxDelay.
	Delay    Duration `yaml:"delay" json:"delay,omitempty"`
	MaxDelay Duration `yaml:"max_delay" json:"max_delay,omitempty"`
	// Limit is how many new starts in a row are tried; 0 for no limit. A service
	// that ran for SteadyTime has begun a new row.
	Limit int `yaml:"limit" json:"limit,omitempty"`
}

// What holds where a declaration says nothing.
const (
	DefaultCPUWeight      = 100
	DefaultStopTimeout    = 30 * time.Second
	DefaultHealthInterval = 30 * time.Second
	DefaultHealthTimeout  = 10 * time.Second
	DefaultHealthRetries  = 3
	DefaultRestartDelay   = time.Second
	DefaultMaxDelay       = time.Minute
	DefaultWait           = time.Minute
	// SteadyTime is how long a service has to run for its end to count as the first.
	SteadyTime = 5 * time.Minute
)

// Elastic tells whether what the service has follows its need.
func (s *Service) Elastic() bool {
	return s.Memory.Most > s.Memory.Start || s.CPUsMin > 0 && s.CPUsMin < s.CPUs
}

// Sized tells whether anything of its size changes while it runs: what it has, or its
// part of the CPU time.
func (s *Service) Sized() bool { return s.Elastic() || s.Priority > 0 }

// Runs tells whether the service has a command, of its own or its image's. One that has
// none is a VM that runs until it is stopped.
func (s Service) Runs() bool { return len(s.Command) > 0 || s.Image != "" }

// WithDefaults is the service with all that it leaves to the defaults said.
func (s Service) WithDefaults() Service {
	s.CPUs = cmp.Or(s.CPUs, 1)
	s.StopTimeout = cmp.Or(s.StopTimeout, Duration(DefaultStopTimeout))
	s.Restart.Policy = cmp.Or(s.Restart.Policy, RestartNever)
	s.Restart.Delay = cmp.Or(s.Restart.Delay, Duration(DefaultRestartDelay))
	s.Restart.MaxDelay = max(cmp.Or(s.Restart.MaxDelay, Duration(DefaultMaxDelay)), s.Restart.Delay)
	if s.OnDemand != nil {
		d := *s.OnDemand
		d.Wait = cmp.Or(d.Wait, Duration(DefaultWait))
		s.OnDemand = &d
	}
	if s.Health != nil {
		h := *s.Health
		h.Interval = cmp.Or(h.Interval, Duration(DefaultHealthInterval))
		h.Timeout = cmp.Or(h.Timeout, Duration(DefaultHealthTimeout))
		h.Retries = cmp.Or(h.Retries, DefaultHealthRetries)
		s.Health = &h
	}
	return s
}

// Resolve makes the paths of the host that the service names absolute: they are
// relative to the directory base.
func (s *Service) Resolve(base string) {
	s.Image, s.Overlay = ResolveImage(base, s.Image), absolute(base, s.Overlay)
	for _, list := range [][]string{s.Disks, s.Shares, s.Pmems} {
		for i, e := range list {
			list[i] = absolute(base, e)
		}
	}
	if s.OnDemand != nil {
		for i, e := range s.OnDemand.Sockets {
			s.OnDemand.Sockets[i] = absolute(base, e)
		}
	}
	for i, e := range s.Ports {
		if name, path, ok := strings.Cut(e, "=unix:"); ok {
			s.Ports[i] = name + "=unix:" + absolute(base, path)
		}
	}
}

// absolute puts base before a path, which may have options behind it.
func absolute(base, path string) string {
	if path == "" || strings.HasPrefix(path, "/") {
		return path
	}
	return strings.TrimSuffix(base, "/") + "/" + path
}
