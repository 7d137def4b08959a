import { byId } from './dom.js';

/**
 * Takes photos in whichever way they come: dropped, pasted, chosen or from the camera.
 * @param {(file: File) => void} onFile
 * @param {(sentence: string) => void} onRefused
 */
export function takePhotos(onFile, onRefused) {
  const offer = (file) => (isPerhapsPicture(file) ? onFile(file) : onRefused(`“${file.name}” is not a picture.`));
  listenToPickers(offer);
  listenToPaste(offer);
  listenToDrops(offer, onRefused);
}

/** The service decides by the bytes; here only what calls itself something else is turned away. */
function isPerhapsPicture(file) {
  return !file.type || file.type.startsWith('image/') || file.type === 'application/octet-stream';
}

function listenToPickers(offer) {
  for (const input of [byId('file'), byId('camera')]) {
    input.addEventListener('change', () => {
      if (input.files[0]) offer(input.files[0]);
      // Else choosing the same file again would be no change.
      input.value = '';
    });
  }
  for (const button of document.querySelectorAll('[data-pick]')) {
    button.addEventListener('click', () => byId(button.dataset.pick).click());
  }
}

function listenToPaste(offer) {
  document.addEventListener('paste', (event) => {
    const file = pictureFirst(event.clipboardData?.files ?? []);
    if (!file) return;
    event.preventDefault();
    offer(file);
  });
}

function listenToDrops(offer, onRefused) {
  const zone = byId('dropzone');
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    zone.hidden = !event.dataTransfer.types.includes('Files');
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) zone.hidden = true;
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    zone.hidden = true;
    const file = pictureFirst(event.dataTransfer.files);
    if (file) offer(file);
    else onRefused('That was no file. Save the picture first, then drop the file here.');
  });
}

/** Of several files the first picture; of none the first file, so that there is something to complain about. */
function pictureFirst(files) {
  return [...files].find((file) => file.type.startsWith('image/')) ?? files[0];
}
