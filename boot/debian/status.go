package debian

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// runReporting runs a program that writes apt's status lines to descriptor 3.
func runReporting(cmd *exec.Cmd, report func(percent float64)) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	parseStatus(r, report)
	io.Copy(io.Discard, r) // what was no status line must not stop its writer
	return cmd.Wait()
}

// parseStatus reads lines "dlstatus:COUNT:PERCENT:TEXT" (README.progress-reporting
// of apt) until there are no more.
func parseStatus(r io.Reader, report func(percent float64)) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.SplitN(lines.Text(), ":", 4)
		if len(f) < 3 || f[0] != "dlstatus" {
			continue
		}
		if percent, err := strconv.ParseFloat(f[2], 64); err == nil && percent >= 0 && percent <= 100 {
			report(percent)
		}
	}
}

// explain makes an error of what apt wrote: its lines "E: ...".
func explain(name, diagnosis string, err error) error {
	var said []string
	missing := false
	for line := range strings.Lines(diagnosis) {
		if e, ok := strings.CutPrefix(strings.TrimSpace(line), "E: "); ok {
			missing = missing || strings.HasPrefix(e, "Unable to locate package") || strings.HasPrefix(e, "No packages found") ||
				strings.HasPrefix(e, "Can't find a source to download") || strings.HasPrefix(e, "Can't select candidate")
			said = append(said, e)
		}
	}
	if len(said) == 0 {
		return fmt.Errorf("%s: %w", name, err)
	}
	if missing {
		return fmt.Errorf("%w (%s)", ErrNotFound, strings.Join(said, "; "))
	}
	return fmt.Errorf("%s: %s", name, strings.Join(said, "; "))
}

// shellVariables reads lines NAME='VALUE' as apt-config prints them.
func shellVariables(out []byte) map[string]string {
	vars := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			vars[name] = strings.Trim(value, "'")
		}
	}
	return vars
}
