package declaration

import (
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"warder/guestinit/secret"
)

// Bounds on what a declaration may say.
const (
	MaxCPUs     = 256
	maxMemory   = 1 << 44 // bytes
	minMemory   = 32 << 20
	maxList     = 64   // entries of a list of attachments
	maxArgs     = 1024 // words of a command, variables of an environment
	maxRules    = 1024 // entries of a list of what may be said on the LAN
	maxText     = 4096 // bytes of one word
	maxRetries  = 1000
	maxPriority = 1000
	maxDuration = Duration(1e9 * 60 * 60 * 24 * 30) // 30 days
)

// A Problem is what is wrong at one place of a declaration.
type Problem struct {
	Path string // of the value, as in "health.interval"; "" for the whole
	Text string
}

func (p *Problem) Error() string {
	if p.Path == "" {
		return p.Text
	}
	return p.Path + ": " + p.Text
}

// name is good as a hostname, as a part of a path, and in a line of output.
var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

const (
	// Self is what a service calls itself, whatever its name.
	Self = "self"
	// Supervisor is what the VM is called that decides about services.
	Supervisor = "supervisor"
)

// CheckName says what is wrong with the name of a service.
func CheckName(s string) error {
	switch s {
	case Self:
		return fmt.Errorf("name %q: that is what services call themselves, give another", s)
	case Supervisor:
		return fmt.Errorf("name %q: that is the VM which decides about services, give another", s)
	}
	if !name.MatchString(s) {
		return fmt.Errorf("name %q: give letters a to z, digits, - inside, at most 63", clip(s))
	}
	return nil
}

// Check says all that is wrong with a service, as [*Problem]s that are joined.
// Whether the files that it names are there is not looked at.
func (s *Service) Check() error {
	c := &checker{}
	if err := CheckName(s.Name); err != nil {
		c.add("name", "%s", strings.TrimPrefix(err.Error(), "name "))
	}
	c.image("image", s.Image)
	c.text("overlay", s.Overlay)
	if s.Overlay != "" && s.Image == "" {
		c.add("overlay", "it is for what is written to an image: give one")
	}
	c.command("command", s.Command)
	c.env(s.Env)
	c.text("workdir", s.Workdir)
	if s.Workdir != "" && !path.IsAbs(s.Workdir) {
		c.add("workdir", "%q: give an absolute path in the guest", clip(s.Workdir))
	}
	c.text("user", s.User)
	c.between("cpus", s.CPUs, 0, MaxCPUs)
	c.between("cpus_min", s.CPUsMin, 0, max(s.CPUs, 1))
	c.between("priority", s.Priority, -maxPriority, maxPriority)
	c.between("cpu_weight", s.CPUWeight, 0, 10000)
	if s.CPUMax < 0 || math.IsNaN(s.CPUMax) || s.CPUMax > MaxCPUs {
		c.add("cpu_max", "%v: give a number of CPUs, as in 0.5", s.CPUMax)
	}
	for _, m := range []Size{s.Memory.Start, s.Memory.Most} {
		if m != 0 && (m < minMemory || m > maxMemory) {
			c.add("memory", "%s: give 32M to 16T", m.String())
		}
	}
	c.oneOf("watchdog", s.Watchdog, "log", "pause", "reset", "kill")
	for what, list := range map[string][]string{"disks": s.Disks, "shares": s.Shares, "nets": s.Nets, "pmems": s.Pmems, "ports": s.Ports} {
		c.list(what, list)
	}
	c.secrets("secrets", s.Secrets)
	c.lan("lan", s.LAN)
	if d := s.OnDemand; d != nil {
		c.duration("on_demand.idle", d.Idle)
		c.duration("on_demand.wait", d.Wait)
		c.list("on_demand.sockets", d.Sockets)
		for i, e := range d.Sockets {
			if _, _, err := ParseSocket(e); err != nil {
				c.add(fmt.Sprintf("on_demand.sockets[%d]", i), "%v", err)
			}
		}
	}
	if h := s.Health; h != nil {
		if len(h.Command) == 0 {
			c.add("health", "give a command that ends with status 0 while the service is well")
		}
		c.command("health.command", h.Command)
		c.between("health.retries", h.Retries, 0, maxRetries)
		c.duration("health.interval", h.Interval)
		c.duration("health.timeout", h.Timeout)
		c.duration("health.start_period", h.StartPeriod)
	}
	r := s.Restart
	c.oneOf("restart.policy", r.Policy, RestartNever, RestartOnFailure, RestartAlways)
	if r.Policy == "" && r != (Restart{}) {
		c.add("restart", "give a policy: %s, %s or %s", RestartNever, RestartOnFailure, RestartAlways)
	}
	c.between("restart.limit", r.Limit, 0, maxRetries)
	c.duration("restart.delay", r.Delay)
	c.duration("restart.max_delay", r.MaxDelay)
	if r.MaxDelay != 0 && r.MaxDelay < r.Delay {
		c.add("restart.max_delay", "%v is less than the delay, %v", r.MaxDelay, r.Delay)
	}
	c.duration("stop_timeout", s.StopTimeout)
	slices.SortStableFunc(c.problems, func(a, b error) int { return strings.Compare(a.(*Problem).Path, b.(*Problem).Path) })
	return errors.Join(c.problems...)
}

// CheckWays says that connections are to start a service to which none leads, nil if that
// is not so.
func (s *Service) CheckWays() *Problem {
	if s.OnDemand == nil || len(s.OnDemand.Sockets) > 0 || s.LAN != nil && len(s.LAN.Mirror) == 0 {
		return nil
	}
	return &Problem{"on_demand", "nothing leads to it: give sockets here, or a place on the LAN"}
}

// A checker collects problems.
type checker struct{ problems []error }

func (c *checker) add(path, format string, args ...any) {
	c.problems = append(c.problems, &Problem{path, fmt.Sprintf(format, args...)})
}

func (c *checker) between(path string, v, least, most int) {
	switch {
	case v >= least && v <= most:
	case least < 0:
		c.add(path, "%d: give %d to %d", v, least, most)
	default:
		c.add(path, "%d: give at most %d", v, most)
	}
}

func (c *checker) duration(path string, d Duration) {
	if d < 0 || d > maxDuration {
		c.add(path, "%v: give at most %v", d, maxDuration)
	}
}

func (c *checker) oneOf(path, v string, words ...string) {
	if v != "" && !slices.Contains(words, v) {
		c.add(path, "%q: give one of %s", clip(v), strings.Join(words, ", "))
	}
}

// text refuses what no path or word has: what ends it for the kernel, and what
// steers a terminal.
func (c *checker) text(path, s string) {
	switch {
	case len(s) > maxText:
		c.add(path, "%d bytes: give at most %d", len(s), maxText)
	case !utf8.ValidString(s):
		c.add(path, "%q is no UTF-8", clip(s))
	case strings.ContainsFunc(s, unicode.IsControl):
		c.add(path, "%q has control characters", clip(s))
	}
}

// word is text that may have line feeds and tabs, as a script has.
func (c *checker) word(path, s string) {
	c.text(path, strings.NewReplacer("\n", "", "\t", "").Replace(s))
}

func (c *checker) command(path string, words []string) {
	if len(words) > maxArgs {
		c.add(path, "%d words: give at most %d", len(words), maxArgs)
		return
	}
	if len(words) > 0 && words[0] == "" {
		c.add(path, "its first word is empty: give a program")
	}
	for i, w := range words {
		c.word(fmt.Sprintf("%s[%d]", path, i), w)
	}
}

func (c *checker) image(path, s string) {
	if s == "" {
		return
	}
	before := len(c.problems)
	if c.text(path, s); len(c.problems) > before {
		return
	}
	if _, err := ParseImage(s); err != nil {
		c.add(path, "%v", err)
	}
}

func (c *checker) secrets(path string, names []string) {
	before := len(c.problems)
	if c.list(path, names); len(c.problems) > before {
		return
	}
	for i, name := range names {
		switch where := fmt.Sprintf("%s[%d]", path, i); {
		case !secret.GoodName(name):
			c.add(where, "%q: a name has letters, digits, _, and - and . inside, at most 63", clip(name))
		case slices.Contains(names[:i], name):
			c.add(where, "%q is there twice", name)
		}
	}
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c *checker) env(env map[string]string) {
	if len(env) > maxArgs {
		c.add("env", "%d variables: give at most %d", len(env), maxArgs)
		return
	}
	for k, v := range env {
		if !variable.MatchString(k) {
			c.add("env", "%q is no name of a variable", clip(k))
			continue
		}
		c.word("env."+k, v)
	}
}

func (c *checker) list(what string, list []string) { c.upTo(maxList, what, list) }

func (c *checker) upTo(most int, what string, list []string) {
	if len(list) > most {
		c.add(what, "%d entries: give at most %d", len(list), most)
		return
	}
	for i, e := range list {
		where := fmt.Sprintf("%s[%d]", what, i)
		if e == "" {
			c.add(where, "it is empty")
		}
		c.text(where, e)
	}
}

// ParseSocket reads one of OnDemand's sockets: its path, and the guest's port.
func ParseSocket(s string) (path string, port uint32, err error) {
	i := strings.LastIndexByte(s, ':')
	if i > 0 {
		n, err := strconv.ParseUint(s[i+1:], 10, 32)
		if err == nil && n > 0 && n < math.MaxUint32 {
			return s[:i], uint32(n), nil
		}
	}
	return "", 0, fmt.Errorf("%q: give PATH:PORT, as in web.sock:80", clip(s))
}

// clip is as much of a text as an error quotes.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
