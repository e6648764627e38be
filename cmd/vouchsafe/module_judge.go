package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// moduleResult is one module's line of JSON. Its form is stable.
type moduleResult struct {
	File     string            `json:"file"`
	Verdict  modsig.Verdict    `json:"verdict"`
	Kernel   moduleOutcome     `json:"kernel"`
	Signer   *modsig.Signer    `json:"signer"` // the trusted one, else the first; null without any
	Hash     string            `json:"hash"`
	Findings []finding.Finding `json:"findings"`

	clean  bool
	blind  bool // there was no kernel to judge by
	unread bool // there was no module to judge
}

type moduleOutcome struct {
	Release string `json:"release"`
	Image   string `json:"image"` // where the build key was read; empty without
	modsig.Outcome
}

// judging is what every module of one run is judged with.
type judging struct {
	kernels *moduleKernels
	mode    modsig.Mode // "" for the default: the running one for the running kernel, else lockdown
	now     time.Time
	running string
}

// modeFor is the mode that counts for a kernel.
func (j *judging) modeFor(release string) modsig.Mode {
	switch {
	case j.mode != "":
		return j.mode
	case release == j.running && j.kernels.root == "/":
		return runningMode()
	}
	return modsig.Lockdown
}

// moduleFiles lists the modules under every argument, sorted; a file named on
// the command line counts whatever its name is.
func moduleFiles(args []string) ([]string, error) {
	var out []string
	for _, arg := range args {
		st, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			out = append(out, arg)
			continue
		}
		// A trailing slash, so that a link to a directory is walked too.
		err = filepath.WalkDir(arg+"/", func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.Type().IsRegular() && isModuleName(path) {
				out = append(out, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// parkedModules is how many modules may wait, read and hashed, while their
// kernel's image is still being decompressed: a few kilobytes each.
const parkedModules = 4096

// judgeAll judges files on all processors and hands the results to each in
// the order of the files. Memory does not grow with their number: every
// worker has one buffer for the file and one for what is inside.
func (j *judging) judgeAll(ctx context.Context, files []string, each func(moduleResult) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// The heap is a few large buffers without pointers: collecting often costs
	// nothing, and halves the memory that an xz image needs.
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	workers := runtime.GOMAXPROCS(0)
	jobs, order := make(chan moduleJob), make(chan moduleJob, parkedModules)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			w := moduleWorker{j: j}
			for jb := range jobs {
				w.take(jb)
			}
			w.finish(true)
		})
	}
	wg.Go(func() {
		defer close(jobs)
		defer close(order)
		for _, f := range files {
			jb := moduleJob{file: f, done: make(chan moduleResult, 1)}
			select {
			case order <- jb:
			case <-ctx.Done():
				return
			}
			jobs <- jb
		}
	})
	var failed error
	for jb := range order {
		if r := <-jb.done; failed == nil {
			if failed = each(r); failed != nil {
				stop()
			}
		}
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	return ctx.Err()
}

// moduleJob is one file on its way; module and kernel are there once it is read.
type moduleJob struct {
	file   string
	done   chan moduleResult
	module *modsig.Module
	kernel *moduleKernel
}

// moduleWorker owns two buffers, and the modules that wait for their kernel.
type moduleWorker struct {
	j             *judging
	stored, plain []byte
	parked        []moduleJob
}

// take reads and hashes a file; the verdict follows when its kernel is read.
func (w *moduleWorker) take(jb moduleJob) {
	var f *finding.Finding
	if jb.module, f = w.parse(jb.file); f != nil {
		jb.done <- unreadableModule(jb.file, *f)
		return
	}
	release := jb.module.ELF.Release()
	if _, r, ok := splitModulesPath(jb.file); ok {
		release = r // the kernel whose modprobe looks here
	}
	jb.kernel = w.j.kernels.find(release, jb.file)
	w.parked = append(w.parked, jb)
	// With so many waiting there is nothing better to do than to wait, too.
	w.finish(len(w.parked) >= parkedModules/runtime.GOMAXPROCS(0))
}

// finish judges the waiting modules whose kernel is there, or all.
func (w *moduleWorker) finish(wait bool) {
	w.parked = slices.DeleteFunc(w.parked, func(jb moduleJob) bool {
		select {
		case <-jb.kernel.ready:
		default:
			if !wait {
				return false
			}
			<-jb.kernel.ready
		}
		jb.done <- w.j.judge(jb)
		return true
	})
}

func (w *moduleWorker) parse(file string) (*modsig.Module, *finding.Finding) {
	stored, err := readInto(w.stored, file, modsig.MaxModule)
	if err != nil {
		f := modsig.Findings.New("MODULE_UNREADABLE", file, err.Error())
		return nil, &f
	}
	w.stored = stored
	plain, err := modsig.Decompress(stored, w.plain)
	if err != nil {
		f := modsig.Findings.New("MODULE_CORRUPT_STREAM", file, err.Error())
		return nil, &f
	}
	if modsig.CompressionOf(stored) != modsig.Plain {
		w.plain = plain
	}
	return modsig.Parse(plain), nil
}

func (j *judging) judge(jb moduleJob) moduleResult {
	k := jb.kernel
	mode := j.modeFor(k.judge.Release)
	r := jb.module.Check(k.judge, modsig.Options{Name: jb.file, Now: j.now, Others: j.kernels.others()})
	blind := k.err != nil && r.Verdict == modsig.UnknownKey
	if blind {
		r.Findings = append(r.Findings[:0:0], noKernel(jb.file, k))
	}
	out := moduleResult{File: jb.file, Verdict: r.Verdict, Kernel: moduleOutcome{k.judge.Release, k.image, r.Predict(mode)},
		Findings: r.Findings, clean: r.Clean(mode) && !blind, blind: blind}
	if out.Findings == nil {
		out.Findings = []finding.Finding{}
	}
	out.setSigner(r.Signers)
	return out
}

func noKernel(file string, k *moduleKernel) finding.Finding {
	release := k.judge.Release
	if errors.Is(k.err, fs.ErrNotExist) {
		return modsig.Findings.New("MODULE_NO_KERNEL", file, "no vmlinuz-"+release, release)
	}
	return modsig.Findings.New("MODULE_KERNEL_UNREADABLE", file, k.image+": "+k.err.Error(), k.image)
}

func (r *moduleResult) setSigner(signers []modsig.Signer) {
	if len(signers) == 0 {
		return
	}
	i := max(0, slices.IndexFunc(signers, func(s modsig.Signer) bool { return s.TrustedBy != "" }))
	r.Signer, r.Hash = &signers[i], signers[i].Hash
}

// unreadableModule is a file that no kernel can load either.
func unreadableModule(file string, f finding.Finding) moduleResult {
	return moduleResult{File: file, Verdict: modsig.Malformed, Kernel: moduleOutcome{Outcome: modsig.Outcome{Mode: modsig.Off, Errno: "EINVAL"}},
		Findings: []finding.Finding{f}, unread: true}
}
