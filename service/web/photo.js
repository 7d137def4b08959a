/** A photo on the visitor's device. */
export class Photo {
  /**
   * @param {File} file
   * @param {HTMLImageElement | null} image none where the browser cannot show the format
   */
  constructor(file, image) {
    this.file = file;
    this.image = image;
  }

  /**
   * @param {File} file
   * @returns {Promise<Photo>}
   */
  static async open(file) {
    return new Photo(file, await loadImage(file));
  }

  get width() {
    return this.image?.naturalWidth ?? 0;
  }

  get height() {
    return this.image?.naturalHeight ?? 0;
  }

  /** The file's name without its extension. */
  get stem() {
    return this.file.name.replace(/\.[^.]+$/, '') || 'photo';
  }

  /** Such as "712 × 474, 215 KB". */
  get facts() {
    const size = formatBytes(this.file.size);
    return this.image ? `${formatSize(this.width, this.height)}, ${size}` : size;
  }

  close() {
    if (this.image) URL.revokeObjectURL(this.image.src);
  }
}

/**
 * @param {Blob} blob
 * @returns {Promise<HTMLImageElement | null>} decoded, on an object URL that the caller revokes; null if the browser cannot read it
 */
export async function loadImage(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
    return image;
  } catch {
    URL.revokeObjectURL(image.src);
    return null;
  }
}

/**
 * @param {number} width
 * @param {number} height
 */
export function formatSize(width, height) {
  return `${width} × ${height}`;
}

/** @param {number} bytes */
function formatBytes(bytes) {
  if (bytes < 1e3) return `${bytes} bytes`;
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
