package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress shows how far long work is: a bar that is drawn over on a terminal,
// a line a step elsewhere.
type progress struct {
	w     io.Writer
	width int // of the terminal, 0 when it is none
	step  string
	last  time.Time
	line  int // length of the bar that is drawn
}

func newProgress(f *os.File) *progress {
	p := &progress{w: f}
	if w, _, err := term.GetSize(int(f.Fd())); err == nil {
		p.width = max(w, 40)
	}
	return p
}

// report says that done of total units of a step are done; a total of 0 is a
// step of unknown length, of which done may be known.
func (p *progress) report(step string, done, total int64, unit string) {
	if p.width == 0 {
		if step != p.step {
			p.step = step
			fmt.Fprintf(p.w, "%s ...\n", step)
		}
		return
	}
	const redraw = 50 * time.Millisecond
	if step == p.step && (done < total || total == 0) && time.Since(p.last) < redraw {
		return
	}
	if step != p.step {
		p.end()
	}
	p.step, p.last = step, time.Now()
	text := step
	if total == 0 && done > 0 {
		text = fmt.Sprintf("%s %d %s", step, done, unit)
	}
	if total > 0 {
		amount := fmt.Sprintf(" %d/%d %s", done, total, unit)
		const least, most, frame = 5, 40, 4
		name := step[:min(len(step), max(p.width-len(amount)-least-frame, 0))]
		cells := min(max(p.width-len(name)-len(amount)-frame, least), most)
		full := int(min(done, total) * int64(cells) / total)
		text = fmt.Sprintf("%s [%s%s]%s", name, strings.Repeat("#", full), strings.Repeat(".", cells-full), amount)
	}
	text = text[:min(len(text), p.width-1)]
	fmt.Fprintf(p.w, "\r%s%s", text, strings.Repeat(" ", max(p.line-len(text), 0)))
	p.line = len(text)
}

// end finishes the bar that is drawn.
func (p *progress) end() {
	if p.line > 0 {
		fmt.Fprintln(p.w)
	}
	p.line = 0
}
