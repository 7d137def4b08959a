#!/usr/bin/env bash
# Trains the gallery and the upscalers on a CUDA machine, in stretches that end before a time limit and go on
# where the last one stopped. Needs python with torch (CUDA), pillow, safetensors, numpy and tqdm (PYTHON=...).
#
#   deploy/train_on_gpu.sh pack PHOTOS LOSS_WEIGHTS PACKED     here: photos and loss network, under 60 MB (--most-mb)
#   deploy/train_on_gpu.sh train PACKED STYLES STATE [WHAT..]  there: again and again until it says "All done."
#
# STATE keeps the checkpoints of what is not done yet (STATE/runs), what is done (STATE/done) and the results (STATE/zoo,
# those of w32 in its width-32). Bring it back and hand it in again when the machine changes; of what is done the names are
# enough, of x8 also STATE/x8-start.pt. Where little may travel: one WHAT at a time (w16 w32 x2 x4 x8, all by default).
# It ends with 130 where there is more to do. LIMIT: seconds of one stretch, 520 by default.
# UPSCALER_STAGES: in place of the paper's batches of 4, which leave a large GPU idle; "30000x16@192 20000x16@256" are as
# many pictures in a quarter of the steps.
# With several GPUs, PROCESSES=N trains on N of them: 2 or 4, for a batch of the upscalers is 4.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
PYTHON=${PYTHON:-python3}
UPSCALER_STAGES=${UPSCALER_STAGES:-120000x4@192 80000x4@256}
LIMIT=${LIMIT:-520}
PROCESSES=${PROCESSES:-1}

if [[ ${1:-} == pack && $# -ge 4 ]]; then
    exec "$PYTHON" -m training.pack "$4" --photos "$2" --loss-weights "$3" "${@:5}"
fi
if [[ ${1:-} != train || $# -lt 4 ]]; then
    sed -n '2,16s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
packed=$2 styles=$3 state=$4
shift 4
[[ $# -gt 0 ]] || set -- w16 w32 x2 x4 x8

fit() {
    local name=$1 zoo=$2 launcher=()
    shift 2
    [[ ! -e $state/done/$name ]] || return 0
    local left=$((LIMIT - SECONDS))
    # Loading takes about twenty seconds; less than a minute is not worth a start.
    ((left > 60)) || exit 130
    ((PROCESSES == 1)) || launcher=(-m torch.distributed.run --standalone --nproc-per-node "$PROCESSES")
    "$PYTHON" "${launcher[@]}" -m training.fit "$@" --photos "$packed/photos" \
        --loss-weights "$packed/vgg16_relu4_3_fp16.safetensors" --zoo "$zoo" --run-dir "$state/runs/$name" \
        --device cuda --data-processes 8 --save-every 2m --time-limit "$((left - 30))s" --resume
    mkdir -p "$state/done" && touch "$state/done/$name"
    # It would travel with the next stretch.
    rm -f "$state/runs/$name/checkpoint.pt"
}

# The paper's length: 40,000 steps of at least 4 pictures, up to 256 px; 200,000 steps for the upscalers.
gallery() { fit "w$1" "$2" gallery --styles "$styles" --width "$1" --stages 10000x16@128 15000x8@192 15000x8@256; }
upscaler() { fit "x$1" "$state/zoo" upscale --factor "$1" --stages $UPSCALER_STAGES "${@:2}"; }
# Its first stage is an x4: this machine's own, or the shipped one. It is kept: an x4 that comes later is not this run's.
start_of_x8() {
    local x4=$state/zoo/x4.pt start=$state/x8-start.pt
    [[ -e $x4 ]] || x4=$root/models/zoo/x4.pt
    [[ -e $start ]] || { mkdir -p "$state" && cp "$x4" "$start"; }
    echo "$start"
}

for what in "$@"; do
    case $what in
        w16) gallery 16 "$state/zoo" ;;
        # Elsewhere, as in models/zoo: its styles have the names of the other gallery's.
        w32) gallery 32 "$state/zoo/width-32" ;;
        x2 | x4) upscaler "${what#x}" ;;
        # The less is known, the more of what is shown must be texture (docs/training.md).
        x8)
            upscaler 8 --architecture progressive --start-from "$(start_of_x8)" --texture-weight 4 \
                --adversarial-weight 0.4
            ;;
        *) echo "Nothing is called $what: choose among w16 w32 x2 x4 x8." >&2 && exit 2 ;;
    esac
done
echo "All done."
